"""Files that are whole or absent: write beside, fsync, rename; and storage faults said clearly.

A reader of a file written here sees the old content or the new, never a mixture, even after a
crash or on a full disk. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftlab.errors import EnvironmentUnfit, FtlabError

_counter = itertools.count()

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_CUT_SHORT = re.compile(r"\d+ requested and \d+ written")  # numpy's words for a full disk
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


def storage_error(error: OSError, path: str | os.PathLike[str]) -> FtlabError:
    """The one clear error for an `OSError` met while reading or writing `path`."""
    cut_short = error.errno is None and _CUT_SHORT.search(str(error))
    if error.errno in _FULL or cut_short:
        return EnvironmentUnfit(
            f"no space left to write {path}{_free(path)}; free some space there, or choose "
            f"another disk with --runs-dir"
        )
    if error.errno in _FORBIDDEN:
        reason = "the filesystem is read-only" if error.errno == errno.EROFS else "not permitted"
        return EnvironmentUnfit(
            f"cannot access {path}: {reason}; change its permissions, or choose another folder "
            f"with --runs-dir"
        )
    if error.errno in {errno.ENOENT, errno.ESTALE}:
        return FtlabError(f"{path} is gone: it, or its folder, was deleted or moved")
    if error.errno == errno.ENOTDIR:
        return EnvironmentUnfit(f"cannot use {path}: a part of this path is a file, not a folder")
    return FtlabError(f"cannot access {path}: {error.strerror or error}")


@contextlib.contextmanager
def clear_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn any `OSError` of the block into the clear error about `path`."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path) from error


def write_bytes(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace `path` by `data` in one step.

    Args:
        durable: fsync file and folder before returning. Without it a crash of the machine (not of
            the process) may bring back the previous content; right for a heartbeat.
    Raises:
        EnvironmentUnfit: disk full, read-only or forbidden. The previous content stays; of a disk
            that is full only where no room was reserved (`reserve`).
        FtlabError: the folder is gone, or another storage fault.
    """
    beside = path.with_name(
        f".{path.name}.{os.getpid()}.{threading.get_ident()}.{next(_counter)}.tmp"
    )
    with clear_errors(path):
        try:
            _fill(beside, data, durable)
            os.replace(beside, path)
        except OSError as error:
            with contextlib.suppress(OSError):
                beside.unlink()
            if error.errno not in _FULL or not _fill_room(path, data):
                raise
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
        if durable:
            sync_folder(path.parent)


def reserve(path: Path, size: int) -> None:
    """Take `size` bytes of the disk now, so that `path` can be written when it is full.

    They lie in a file beside it, which is written in place and renamed: that takes no new block and
    no new inode. What is replaced then makes room for the next time. `release` gives them back.

    Raises:
        as `write_bytes`.
    """
    room = _room(path)
    with clear_errors(path):
        if not room.is_file() or room.stat().st_size < size:
            room.unlink(missing_ok=True)
            _fill(room, bytes(size), durable=True)  # zeros that are written, not a hole


def release(path: Path) -> None:
    """Give back what was reserved for `path`; nothing when nothing was."""
    with contextlib.suppress(OSError):
        _room(path).unlink()


def write_text(path: Path, text: str, *, durable: bool = True) -> None:
    """Replace `path` by UTF-8 `text` in one step; raises as `write_bytes`."""
    write_bytes(path, text.encode("utf-8"), durable=durable)


def write_json(path: Path, value: Any, *, durable: bool = True) -> None:
    """Replace `path` by `value` as indented JSON with a final newline; raises as `write_bytes`."""
    text = json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", durable=durable)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        FtlabError: missing, unreadable, not JSON, or not an object; the message names the file.
    """
    with clear_errors(path):
        text = path.read_bytes()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise FtlabError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise FtlabError(f"{path} should hold a JSON object, not {type(value).__name__}")
    return value


def plain(value: Any) -> Any:
    """`value` made of what strict JSON holds.

    Paths become text, tuples and sets lists, numpy and torch scalars Python numbers; NaN and
    infinities become null, because strict JSON has no word for them.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if hasattr(value, "item"):
        return plain(value.item())
    return str(value)


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut; silently skipped where not supported."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_all(descriptor: int, data: bytes) -> None:
    """Write every byte of `data`: `os.write` may take only a part when the disk fills up."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _fill(path: Path, data: bytes, durable: bool) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _room(path: Path) -> Path:
    return path.with_name(f".{path.name}.room")


def _fill_room(path: Path, data: bytes) -> bool:
    """Write `data` into what is reserved for `path`; False when there is nothing or not enough."""
    room = _room(path)
    try:
        size = room.stat().st_size
        if size < len(data):
            return False
        descriptor = os.open(room, os.O_WRONLY | os.O_CLOEXEC)
        try:
            write_all(descriptor, data)
            os.ftruncate(descriptor, len(data))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(room, path)
    except OSError:
        return False
    with contextlib.suppress(FtlabError):
        reserve(path, size)
    return True


def _free(path: str | os.PathLike[str]) -> str:
    try:
        free = shutil.disk_usage(Path(path).parent).free
    except OSError:
        return ""
    return f" ({free / 2**20:.0f} MiB free on its disk)"
