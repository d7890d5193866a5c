"""Checkpoints: complete or ignored, verified, pruned only afterwards, safe at every instant."""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit, FtlabError
from ftlab.train import checkpoint
from ftlab.train.checkpoint import MARKER, find_fault, newest, save


class Killed(BaseException):
    """Stands for SIGKILL: after it no file operation succeeds."""


class Tripwire:
    """Raises at the `limit`-th file operation and at every one after it."""

    limit: int | None = None
    count = 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.limit is not None and event.startswith(("open", "os.", "shutil.")):
            self.count += 1
            if self.count > self.limit:
                raise Killed(event)


TRIPWIRE = Tripwire()
sys.addaudithook(TRIPWIRE)


def filler(step: int) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "adapter").mkdir()
        (folder / "adapter" / "weights").write_bytes(bytes([step]) * 5000)
        (folder / "state.json").write_text(json.dumps({"step": step}))

    return fill


def steps(root: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in root.iterdir() if path.name[5:].isdigit())


def test_newest_is_found_and_older_ones_are_pruned(tmp_path: Path) -> None:
    for step in (3, 6, 9, 12):
        made = save(tmp_path, step, filler(step), keep=2)
        assert made.step == step
        assert made.size() > 5000
    assert steps(tmp_path) == [9, 12]
    found, ignored = newest(tmp_path)
    assert found is not None
    assert (found.step, ignored) == (12, [])


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert newest(tmp_path) == (None, [])
    assert newest(tmp_path / "absent") == (None, [])


def test_killed_at_every_operation_a_good_one_is_found(tmp_path: Path) -> None:
    found_steps, operations = [], 0
    while True:
        root = tmp_path / str(operations)
        for step in (1, 2):
            save(root, step, filler(step), keep=2)
        TRIPWIRE.limit, TRIPWIRE.count = operations, 0
        try:
            save(root, 3, filler(3), keep=2)
        except Killed:
            TRIPWIRE.limit = None
            found, _ = newest(root)
            assert found is not None
            assert find_fault(found.path) == ""
            found_steps.append(found.step)
            save(root, 3, filler(3), keep=2)  # resumed: the same step is written again
            assert steps(root) == [2, 3]
            assert len(list(root.iterdir())) == 2
            operations += 1
            continue
        finally:
            TRIPWIRE.limit = None
        break
    assert operations > 20
    assert found_steps == sorted(found_steps)
    assert set(found_steps) == {2, 3}


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda p: (p / MARKER).unlink(), "COMPLETE is gone"),
        (lambda p: (p / MARKER).write_text("{"), "not valid JSON"),
        (lambda p: (p / MARKER).write_text("{}"), "unreadable"),
        (lambda p: (p / "state.json").unlink(), "state.json is missing"),
        (lambda p: os.truncate(p / "adapter" / "weights", 4999), "4999 bytes instead of 5000"),
        (lambda p: (p / "adapter" / "weights").write_bytes(bytes(5000)), "other content"),
    ],
)
def test_damaged_ones_are_passed_over_with_the_reason(
    tmp_path: Path, harm: Callable[[Path], object], reason: str
) -> None:
    for step in (1, 2):
        save(tmp_path, step, filler(step), keep=2)
    harm(tmp_path / "step-00000002")
    found, ignored = newest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert [path.name for path, _ in ignored] == ["step-00000002"]
    assert reason in ignored[0][1]


def test_all_damaged_is_an_error_and_no_silent_restart(tmp_path: Path) -> None:
    for step in (1, 2):
        save(tmp_path, step, filler(step), keep=2)
        (tmp_path / f"step-{step:08d}" / "state.json").write_text("changed")
    with pytest.raises(FtlabError, match=r"every checkpoint .* is damaged .*state\.json"):
        newest(tmp_path)


def test_incomplete_ones_are_ignored_and_said(tmp_path: Path) -> None:
    (tmp_path / "step-00000004.tmp").mkdir()
    found, ignored = newest(tmp_path)
    assert found is None
    assert ignored == [(tmp_path / "step-00000004.tmp", "it was never completed")]


def test_a_renamed_checkpoint_is_noticed(tmp_path: Path) -> None:
    save(tmp_path, 1, filler(1), keep=2)
    (tmp_path / "step-00000001").rename(tmp_path / "step-00000009")
    assert find_fault(tmp_path / "step-00000009") == "it is of step 1"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("function", ["write", "fsync", "rename", "mkdir", "open"])
def test_storage_faults_leave_the_previous_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, number: int
) -> None:
    save(tmp_path, 1, filler(1), keep=1)
    real = getattr(os, function)

    def failing(*arguments: Any, **options: Any) -> Any:
        if function in ("write", "fsync") or "step-00000002" in str(arguments[0]):
            raise OSError(number, os.strerror(number))
        return real(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, function, failing)
        with pytest.raises(EnvironmentUnfit, match=r"step-00000002|checkpoints"):
            save(tmp_path, 2, filler(2), keep=1)
    found, ignored = newest(tmp_path)
    assert found is not None
    assert found.step == 1
    # Removing the unfinished folder needs `open`; where it fails, the folder is ignored.
    assert bool(ignored) == (function == "open")


def test_prune_keeps_the_new_one_when_it_cannot_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, filler(1), keep=1)

    def refuse(folder: Path) -> None:
        raise PermissionError(errno.EACCES, "denied")

    monkeypatch.setattr(checkpoint.folders, "discard", refuse)
    with pytest.raises(EnvironmentUnfit):
        save(tmp_path, 2, filler(2), keep=1)
    found, _ = newest(tmp_path)
    assert found is not None
    assert found.step == 2
