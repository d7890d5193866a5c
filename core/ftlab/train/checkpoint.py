"""Checkpoints on disk: a folder that is complete and verified, or one that is ignored and said so.

    checkpoints/step-00000040/  whatever `fill` wrote, and COMPLETE

A save fills `step-00000040.tmp`, fsyncs every file, writes COMPLETE (step, size and sha256 of every
file), fsyncs, renames, fsyncs the parent, and only then removes older ones. So whatever bears the
final name was complete once; killed at any instant, the previous checkpoint is still there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ftlab.atomic import clear_errors, read_json, sync_folder
from ftlab.errors import FtlabError

MARKER = "COMPLETE"
VERSION = 1
_NAME = re.compile(r"step-(\d{8,})\Z")
_LEFTOVER = re.compile(r"step-\d{8,}\.(tmp|old)\Z")
_CHUNK = 1 << 20  # bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint: where it lies and how many optimizer steps it stands for."""

    path: Path
    step: int

    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.stat().st_size for file in _files(self.path))


def save(root: Path, step: int, fill: Callable[[Path], None], *, keep: int) -> Checkpoint:
    """Write the checkpoint of `step`; afterwards at most `keep` are left.

    Args:
        fill: writes the content into the empty folder it is given.
    Raises:
        EnvironmentUnfit: disk full, read-only or forbidden; earlier checkpoints stay untouched.
        FtlabError: another storage fault.
    """
    final = root / f"step-{step:08d}"
    beside = final.with_name(f"{final.name}.tmp")
    with clear_errors(final):
        try:
            _remove(beside)
            beside.mkdir(parents=True)
            with _plain_os_errors():
                fill(beside)
            _seal(beside, step)
            _publish(beside, final)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)  # a full disk gets its space back
            raise
        _prune(root, keep)
    return Checkpoint(final, step)


def newest(root: Path) -> tuple[Checkpoint | None, list[tuple[Path, str]]]:
    """The newest checkpoint whose every byte is as written, and what was passed over for it.

    Returns:
        the checkpoint, or None when none was ever completed; and (folder, reason) of each one
        that is newer and was ignored.
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
        files = dict(marker["files"])
        for name, expected in files.items():
            file = path / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != expected["size"]:
                return f"{name} has {file.stat().st_size} bytes instead of {expected['size']}"
            if _sha256(file) != expected["sha256"]:
                return f"{name} has other content than was written"
        return "" if marker["step"] == _step(path) else f"it is of step {marker['step']}"
    except (FtlabError, OSError) as error:
        return str(error)
    except (KeyError, TypeError, ValueError):
        return f"{MARKER} is unreadable"


def _seal(folder: Path, step: int) -> None:
    """fsync every file and folder, then state in COMPLETE what they hold."""
    files = {}
    for file in _files(folder):
        _sync_file(file)
        files[str(file.relative_to(folder))] = {
            "size": file.stat().st_size,
            "sha256": _sha256(file),
        }
    for inner in sorted(path for path in folder.rglob("*") if path.is_dir()):
        sync_folder(inner)
    marker = {"version": VERSION, "step": step, "files": files}
    with (folder / MARKER).open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(marker, indent=2) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(folder)


def _publish(beside: Path, final: Path) -> None:
    """Give the sealed folder its name. A folder already there is damaged: move it out of the way."""
    if final.exists():
        old = final.with_name(f"{final.name}.old")
        _remove(old)
        os.rename(final, old)
    os.rename(beside, final)
    sync_folder(final.parent)


def _prune(root: Path, keep: int) -> None:
    """Remove all but the newest `keep`; each is renamed first, so that none is ever half there."""
    for path in _listed(root, _NAME)[:-keep]:
        old = path.with_name(f"{path.name}.old")
        _remove(old)
        os.rename(path, old)
    for path in _listed(root, _LEFTOVER):
        _remove(path)


def _listed(root: Path, pattern: re.Pattern[str]) -> list[Path]:
    """Folders in `root` whose names match, oldest step first."""
    if not root.is_dir():
        return []
    found = [path for path in root.iterdir() if pattern.match(path.name) and path.is_dir()]
    return sorted(found, key=lambda path: (_step(path), path.name))


def _step(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("step-"))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(file: Path) -> str:
    state = hashlib.sha256()
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            state.update(chunk)
    return state.hexdigest()


@contextlib.contextmanager
def _plain_os_errors() -> Iterator[None]:
    """safetensors reports a full disk as an error of its own; give it back as the `OSError` it is."""
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
