"""Commands of ftrun as children: their words, their end, and a place that cannot be written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ftlab_tui.runs import commands


def test_a_command_writes_to_a_file(tmp_path: Path) -> None:
    child = commands.start(["runs", "--runs-dir", str(tmp_path / "none")], tmp_path)
    deadline = time.monotonic() + 60
    while child.ended() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert child.ended() == 0
    assert child.words.startswith("ftrun runs --runs-dir")
    assert child.output.parent == tmp_path / "commands"
    assert child.first_words(1) == child.last_words(1) != ""


def test_one_that_fails_says_why(tmp_path: Path) -> None:
    child = commands.start(["show", "nothing", "--runs-dir", str(tmp_path)], tmp_path)
    while child.ended() is None:
        time.sleep(0.05)
    assert child.ended() == 2
    assert "no run 'nothing'" in child.last_words()


def test_without_a_place_for_its_output_it_goes_into_memory(tmp_path: Path) -> None:
    """A full disk, or here a file in the way, must not hide why a command failed."""
    (tmp_path / "commands").write_text("a file where a folder should be")
    child = commands.start(["show", "nothing", "--runs-dir", str(tmp_path)], tmp_path)
    while child.ended() is None:
        time.sleep(0.05)
    assert child.ended() == 2
    assert "no run 'nothing'" in child.last_words()
    place = child.output
    assert place.exists()
    del child
    assert not place.exists()


def test_a_command_that_cannot_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands.sys, "executable", str(tmp_path / "none"))
    child = commands.start(["runs"], tmp_path)
    assert child.ended() == 1
    assert "cannot start ftrun runs" in child.last_words()


def test_which_there_are() -> None:
    assert all(commands.available(name) for name in ("compare", "reproduce", "export"))
    assert not commands.available("dance")
    assert "no command `dance`" in commands.missing("dance")
