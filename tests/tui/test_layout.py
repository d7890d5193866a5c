"""What is remembered between starts."""

from __future__ import annotations

from pathlib import Path

from ftlab_tui.layout import Layout


def test_what_is_set_is_there_next_time(tmp_path: Path) -> None:
    Layout(tmp_path).set("simple", False)
    assert Layout(tmp_path).get("simple", True) is False
    assert Layout(tmp_path).get("simple", "text") == "text"


def test_a_damaged_or_forbidden_file_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "layout.json").write_text("{")
    assert Layout(tmp_path).get("theme", "dark") == "dark"
    (tmp_path / "file").write_text("")
    told: list[str] = []
    layout = Layout(tmp_path / "file", told.append)
    layout.set("theme", "light")
    layout.set("theme", "dark")
    assert layout.get("theme", "") == "dark"
    assert len(told) == 1  # not at every change
    assert "until the app ends" in told[0]
    Layout(tmp_path / "file").set("theme", "light")
