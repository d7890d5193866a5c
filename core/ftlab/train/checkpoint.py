"""Checkpoints on disk: a folder that is complete and verified, or one that is ignored and said so.

    checkpoints/step-00000040/  whatever `fill` wrote, and COMPLETE: step, size and sha256 of it all

A save fills `step-00000040.tmp`, fsyncs everything, renames, fsyncs the parent, and only then
removes older ones. So whatever bears the final name was complete once; killed at any instant, the
previous checkpoint is still there.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ftlab import folders
from ftlab.atomic import clear_errors, read_json, write_json
from ftlab.errors import FtlabError

MARKER = "COMPLETE"
VERSION = 1
_NAME = re.compile(r"step-(\d{8,})\Z")
_LEFTOVER = re.compile(r"step-\d{8,}\.(tmp|old)\Z")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: where it lies and how many optimizer steps it stands for."""

    path: Path
    step: int

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in folders.files(self.path))


def save(root: Path, step: int, fill: Callable[[Path], None], *, keep: int) -> Checkpoint:
    """Write the checkpoint of `step`; afterwards at most `keep` are left.

    Args:
        fill: writes the content into the empty folder it is given.
    Raises:
        EnvironmentUnfit: disk full, read-only or forbidden; earlier checkpoints stay untouched.
        FtlabError: another storage fault.
    """

    def fill_and_mark(folder: Path) -> None:
        fill(folder)
        content = {str(file.relative_to(folder)): _describe(file) for file in folders.files(folder)}
        marker = {"version": VERSION, "step": step, "files": content}
        write_json(folder / MARKER, marker)

    made = Checkpoint(root / f"step-{step:08d}", step)
    folders.write_folder(made.path, fill_and_mark)
    _prune(root, keep)
    return made


def newest(root: Path) -> tuple[Checkpoint | None, list[tuple[Path, str]]]:
    """The newest checkpoint whose every byte is as written, and what was passed over for it.

    Returns:
        the checkpoint, or None when none was ever completed; and (folder, reason) of each one
        that was ignored.
    Raises:
        FtlabError: there are checkpoints, and every one is damaged.
    """
    ignored = [(path, "it was never completed") for path in _listed(root, _LEFTOVER)]
    damaged: list[tuple[Path, str]] = []
    for path in reversed(_listed(root, _NAME)):
        fault = find_fault(path)
        if not fault:
            return Checkpoint(path, _step(path)), ignored + damaged
        damaged.append((path, fault))
    if damaged:
        listing = "; ".join(f"{path.name}: {fault}" for path, fault in damaged)
        raise FtlabError(
            f"every checkpoint in {root} is damaged ({listing}). Put a good copy back, or remove "
            f"them to begin again from step 0"
        )
    return None, ignored


def find_fault(path: Path) -> str:
    """What is wrong with the checkpoint at `path`, "" when nothing is."""
    try:
        marker = read_json(path / MARKER)
        for name, expected in dict(marker["files"]).items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["size"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['size']}"
            if _describe(file) != expected:
                return f"{name} has other content than was written"
        return "" if marker["step"] == _step(path) else f"it is of step {marker['step']}"
    except (FtlabError, OSError) as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        return f"{MARKER} is unreadable"


def _prune(root: Path, keep: int) -> None:
    """Remove all but the newest `keep`, and what killed saves left."""
    with clear_errors(root):
        for path in _listed(root, _NAME)[:-keep]:
            folders.discard(path)
        for path in _listed(root, _LEFTOVER):
            folders.remove(path)


def _listed(root: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Folders in `root` whose names match, oldest step first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if pattern.match(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (_step(path), path.name))


def _step(path: Path) -> int:
    return int(path.name.partition(".")[0].removeprefix("step-"))


def _describe(file: Path) -> dict[str, int | str]:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"size": file.stat().st_size, "sha256": digest}
