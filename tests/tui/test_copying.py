"""Copies in files."""

from __future__ import annotations

from pathlib import Path

from ftlab_tui import copying


def test_the_newest_files_stay(tmp_path: Path) -> None:
    for number in range(copying.KEPT + 3):
        copying.write(tmp_path, f"text {number}/x", "text")
    assert len(list(tmp_path.iterdir())) == copying.KEPT
    assert (tmp_path / f"text-{copying.KEPT + 2}-x.txt").read_text() == "text\n"
