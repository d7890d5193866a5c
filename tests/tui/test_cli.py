"""The command line of the app."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab_tui import cli


def test_status_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--runs-dir", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_serve_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli.main(["serve"]) == 3
    assert "pip install textual-serve" in capsys.readouterr().err


def test_an_unknown_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["attach", "nothing", "--runs-dir", str(tmp_path)]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err


def test_a_run_belongs_to_attach(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "something"]) == 2
    assert "unexpected" in capsys.readouterr().err
