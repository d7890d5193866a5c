"""Runs that were thrown away: moved into .trash beside the others, so that it can be undone.

A run is moved by one rename, under its lock: no trainer can start in it meanwhile, and killed at
any instant it lies in one place or the other, whole. Standard library only.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ftlab.atomic import clear_errors
from ftlab.errors import ConfigError, RunBusy
from ftlab.run import LIVE, Run

FOLDER = ".trash"
_NAME = re.compile(r"(?P<id>.+)\.(?P<moment>\d{10,})\Z")


@dataclass(frozen=True, slots=True)
class Discarded:
    """A run in the trash."""

    path: Path
    id: str
    moment: float  # unix seconds at which it was thrown away


def size(folder: Path) -> int:
    """Bytes of all files below a folder; what vanishes meanwhile counts as nothing."""
    total, waiting = 0, [os.fspath(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total


def discard(run: Run) -> Discarded:
    """Move a run into the trash of its folder.

    Raises:
        RunBusy: it is being trained, or just begins to.
        FtlabError: the run is gone, or its folder cannot be written.
    """
    state = run.liveness()
    if state in LIVE:
        raise RunBusy(f"run {run.id} is {state}; stop it first: ftrun stop {run.id}")
    folder = run.path.parent / FOLDER
    moment = int(time.time())
    with clear_errors(run.path), run.lock():
        folder.mkdir(exist_ok=True)
        while (target := folder / f"{run.id}.{moment}").exists():
            moment += 1
        run.path.rename(target)
    return Discarded(target, run.id, float(moment))


def contents(root: str | os.PathLike[str]) -> list[Discarded]:
    """The runs in the trash of a folder of runs, thrown away first come first."""
    folder = Path(root) / FOLDER
    try:
        found = [(path, _NAME.match(path.name)) for path in folder.iterdir()]
    except OSError:
        return []
    made = [Discarded(p, m["id"], float(m["moment"])) for p, m in found if m]
    return sorted(made, key=lambda item: (item.moment, item.id))


def restore(item: Discarded) -> Run:
    """Put a run back.

    Raises:
        ConfigError: a run of that name exists again.
        FtlabError: it is not in the trash any more, or the folder cannot be written.
    """
    target = item.path.parent.parent / item.id
    if target.exists():
        raise ConfigError(f"run {item.id} exists; rename it before the old one is put back")
    with clear_errors(item.path):
        item.path.rename(target)
    return Run(target)


def empty(root: str | os.PathLike[str]) -> int:
    """Remove everything in the trash for good; the bytes that were freed.

    Raises:
        FtlabError: something cannot be removed.
    """
    freed = 0
    for item in contents(root):
        freed += size(item.path)
        with clear_errors(item.path):
            shutil.rmtree(item.path)
    return freed
