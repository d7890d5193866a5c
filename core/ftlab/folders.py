"""Folders that are whole or absent: filled beside, fsynced, renamed. Standard library only.

`atomic` does the same for single files. NAME.tmp and NAME.old are leftovers of a write that was
killed; the next write of NAME removes them.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from ftlab.atomic import clear_errors, sync_folder


def write_folder(final: Path, fill: Callable[[Path], None]) -> None:
    """Make the folder `final`, replacing one of that name; killed at any instant, none is half.

    Args:
        fill: writes the content into the empty folder it is given.
    Raises:
        EnvironmentUnfit: disk full, read-only or forbidden; what was there before stays.
        FtlabError: another storage fault.
    """
    beside = final.with_name(f"{final.name}.tmp")
    with clear_errors(final):
        try:
            remove(beside)
            beside.mkdir(parents=True)
            with _plain_os_errors():
                fill(beside)
            _allow_reading(beside)
            sync_tree(beside)
            _publish(beside, final)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)  # a full disk gets its space back
            raise


def discard(folder: Path) -> None:
    """Remove `folder`, renamed first, so that it is never half there under its own name."""
    old = folder.with_name(f"{folder.name}.old")
    remove(old)
    os.rename(folder, old)
    remove(old)


def remove(folder: Path) -> None:
    """Remove `folder` where it exists."""
    if folder.exists():
        shutil.rmtree(folder)


def files(folder: Path) -> list[Path]:
    """Every file under `folder`, in a fixed order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def sync_tree(folder: Path) -> None:
    """fsync every file and folder under `folder`, and itself."""
    for file in files(folder):
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    for inner in sorted(path for path in folder.rglob("*") if path.is_dir()):
        sync_folder(inner)
    sync_folder(folder)


def _allow_reading(folder: Path) -> None:
    """Give every file the mode the folder got from the umask; safetensors makes private ones."""
    for file in files(folder):
        file.chmod(folder.stat().st_mode & 0o666)


def _publish(beside: Path, final: Path) -> None:
    old = final.with_name(f"{final.name}.old")
    if final.exists():
        remove(old)
        os.rename(final, old)
    os.rename(beside, final)
    sync_folder(final.parent)
    remove(old)


@contextlib.contextmanager
def _plain_os_errors() -> Iterator[None]:
    """safetensors reports a full disk as an error of its own; give back the `OSError` it is."""
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
