"""`python -m ftlab_doctor` is `ftdoctor`."""

from __future__ import annotations

import runpy
import sys

import pytest

from ftlab_doctor import __version__


def test_it_is_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["ftdoctor", "--version"])
    with pytest.raises(SystemExit) as left:
        runpy.run_module("ftlab_doctor", run_name="__main__")
    assert left.value.code == 0
    assert capsys.readouterr().out == f"ftdoctor {__version__}\n"
