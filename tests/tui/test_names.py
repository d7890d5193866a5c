"""Paths as screens show them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab_tui.names import short


def test_home_is_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert short(Path("/home/someone/runs/a")) == "~/runs/a"
    assert short(Path("/home/someone-else/a")) == "/home/someone-else/a"
    assert short(Path("runs/a")) == "runs/a"
