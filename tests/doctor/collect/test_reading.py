"""Files that are absent, closed, long or no text: told apart, and never an exception."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftlab_doctor.collect import reading


def test_absent_is_false_and_unreadable_is_true(tmp_path: Path) -> None:
    assert reading.text(str(tmp_path / "none")) is False
    assert reading.text(str(tmp_path)) is True  # a folder is there, and cannot be read
    (tmp_path / "file").write_text("x")
    assert reading.text(str(tmp_path / "file" / "below")) is False


def test_the_beginning_of_a_long_file_and_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"ab\xffcd" * 1000)
    assert reading.text(str(file), 5) == "ab\ufffdcd"


def test_names_are_sorted(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).touch()
    assert reading.names(str(tmp_path)) == ["a", "b"]
    assert reading.names(str(tmp_path / "none")) is False


def test_a_program_is_found_as_a_shell_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder / "tool").mkdir(parents=True) if folder == "one" else (tmp_path / folder).mkdir()  # fmt: skip
    tool = tmp_path / "two/tool"
    tool.write_text("#!/bin/sh\n")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two")]))
    assert reading.which("tool") is None  # not executable
    tool.chmod(0o755)
    assert reading.which("tool") == str(tool)  # a folder of that name is passed over
    assert reading.which(str(tool)) == str(tool)
