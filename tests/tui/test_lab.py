"""Where the app keeps its own things and looks for runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftlab_tui import lab
from ftlab_tui.lab import Lab


def test_the_state_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert lab.state_dir() == tmp_path / ".local" / "state" / "ftlab"
    monkeypatch.setenv("XDG_STATE_HOME", "~/kept")
    assert lab.state_dir() == tmp_path / "kept" / "ftlab"
    assert not lab.state_dir().exists()


def test_runs_lie_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAB_RUNS", "elsewhere")
    assert Lab().runs_dir == Path("elsewhere")
    monkeypatch.setenv("FTLAB_RUNS", "")
    assert Lab().runs_dir == Path("runs")
