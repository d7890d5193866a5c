"""Folders appear whole: killed at every file operation, the old one or the new one is there."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ftlab import folders
from ftlab.errors import EnvironmentUnfit, FtlabError
from ftlab.folders import write_folder


class Killed(BaseException):
    """Stands for SIGKILL: once it was raised, every further file operation raises it again."""


class Tripwire:
    """Counts file operations of the process; at the `limit`-th it kills."""

    def __init__(self) -> None:
        self.limit: int | None = None
        self.count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.limit is None or not event.startswith(("open", "os.", "shutil.")):
            return
        self.count += 1
        if self.count > self.limit:
            raise Killed(event)


TRIPWIRE = Tripwire()
sys.addaudithook(TRIPWIRE)  # hooks cannot be removed; without a limit it does nothing


@contextmanager
def killed_after(operations: int) -> Iterator[None]:
    TRIPWIRE.limit, TRIPWIRE.count = operations, 0
    try:
        yield
    finally:
        TRIPWIRE.limit = None


def filler(text: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "inner").mkdir()
        (folder / "a.txt").write_text(text)
        (folder / "inner" / "b.txt").write_text(text * 1000)

    return fill


def content(folder: Path) -> str | None:
    """The text it was filled with, None when absent; fails when half."""
    if not folder.exists():
        return None
    text = (folder / "a.txt").read_text()
    assert (folder / "inner" / "b.txt").read_text() == text * 1000
    return text


@pytest.mark.parametrize("existing", [False, True])
def test_killed_at_every_operation_it_is_old_or_new(tmp_path: Path, existing: bool) -> None:
    outcomes, operations = set(), 0
    while True:
        final = tmp_path / str(operations) / "result"
        final.parent.mkdir()
        if existing:
            write_folder(final, filler("old"))
        try:
            with killed_after(operations):
                write_folder(final, filler("new"))
        except Killed:
            outcomes.add(content(final))
            leftover = final.with_name("result.old")
            if existing and content(final) is None:
                assert content(leftover) == "old"  # between its two renames
            write_folder(final, filler("newer"))  # what is left behind is no hindrance
            assert content(final) == "newer"
            assert [path.name for path in final.parent.iterdir()] == ["result"]
            operations += 1
            continue
        break
    assert operations > 10
    assert outcomes == ({"old", None, "new"} if existing else {None, "new"})


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_storage_faults_keep_the_old_folder_and_leave_nothing(tmp_path: Path, number: int) -> None:
    final = tmp_path / "result"
    write_folder(final, filler("old"))

    def fail(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(EnvironmentUnfit, match="result"):
        write_folder(final, fail)
    assert content(final) == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_full_disk_is_recognised_in_the_words_of_safetensors(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise RuntimeError("Error while serializing: I/O error: No space left (os error 28)")

    with pytest.raises(EnvironmentUnfit, match="no space left"):
        write_folder(tmp_path / "result", fail)


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        raise ValueError("a fault of ours")

    with pytest.raises(ValueError, match="a fault of ours"):
        write_folder(tmp_path / "result", fail)
    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FtlabError, match="not a folder"):
        write_folder(tmp_path / "file" / "result", filler("new"))


def test_files_are_as_readable_as_their_folder(tmp_path: Path) -> None:
    def fill(folder: Path) -> None:
        (folder / "private").write_text("")
        (folder / "private").chmod(0o600)

    write_folder(tmp_path / "result", fill)
    mode = (tmp_path / "result").stat().st_mode & 0o666
    assert (tmp_path / "result" / "private").stat().st_mode & 0o777 == mode


def test_discard_removes_in_one_rename(tmp_path: Path) -> None:
    write_folder(tmp_path / "result", filler("old"))
    operations = 0
    while (tmp_path / "result").exists():
        try:
            with killed_after(operations):
                folders.discard(tmp_path / "result")
        except Killed:
            assert content(tmp_path / "result") in ("old", None)
        operations += 1
    assert operations > 0
