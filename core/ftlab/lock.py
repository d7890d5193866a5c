"""One live trainer per run: a kernel lock on `run/lock` that dies with its holder.

`flock` belongs to the open file, so the kernel frees it at any death of the process, SIGKILL
included: a stale lock file is simply taken over. The launcher takes the lock and hands the open
file to the trainer it starts (`FTLAB_LOCK_FD`), so that there is no moment between the two in which
another trainer could slip in. Where the filesystem knows no `flock`, the identity that the holder
wrote into the file decides. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from ftlab.atomic import clear_errors, storage_error
from ftlab.errors import RunBusy
from ftlab.process import Identity

HANDOVER = "FTLAB_LOCK_FD"
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
_FULL = {errno.ENOSPC, errno.EDQUOT}
_BUSY = {errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN}
_DYING = 5.0  # seconds that a killed process with threads may hold its files


class Lock:
    """A held lock. Release it with `release`, or leave that to the death of the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self.descriptor = descriptor
        _open_descriptors.add(descriptor)

    @classmethod
    def acquire(cls, path: Path) -> Lock:
        """Take the lock, or adopt the one that the launcher of this process holds for it.

        Raises:
            RunBusy: another live process holds it; the message says which.
            FtlabError: the file cannot be opened (run deleted, read-only).
        """
        lock = cls._adopt(path) or cls._open(path)
        try:
            _claim(lock.descriptor, path)
            lock.name_holder(Identity.mine())
        except BaseException:
            lock.release()
            raise
        return lock

    @classmethod
    def _open(cls, path: Path) -> Lock:
        with clear_errors(path):
            return cls(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666))

    @classmethod
    def _adopt(cls, path: Path) -> Lock | None:
        """The descriptor named by the environment, if it is this very lock file."""
        number = os.environ.pop(HANDOVER, "")
        try:
            descriptor = int(number)
            if not os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return None
        except (ValueError, OSError):
            return None
        os.set_inheritable(descriptor, False)  # the trainer's own children must not hold the lock
        return cls(path, descriptor)

    def name_holder(self, identity: Identity) -> None:
        """Write into the file who holds it, for messages and for filesystems without flock.

        On a full disk the file is left empty, so that a run can be thrown away there; only where
        the name alone is the lock is that an error.
        """
        content = (json.dumps(identity.to_dict()) + "\n").encode()
        with clear_errors(self.path):
            try:
                os.pwrite(self.descriptor, content, 0)
                os.ftruncate(self.descriptor, len(content))
            except OSError as error:
                os.ftruncate(self.descriptor, 0)
                if error.errno not in _FULL or not self._kernel_holds():
                    raise

    def _kernel_holds(self) -> bool:
        """Whether it is flock that keeps others out."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self) -> None:
        """Close this process's hold. The lock lives on if it was handed to a child."""
        if self.descriptor in _open_descriptors:
            _open_descriptors.discard(self.descriptor)
            with contextlib.suppress(OSError):
                os.close(self.descriptor)

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def holder(path: Path) -> Identity | None:
    """Who wrote itself into the lock file last; it may be dead."""
    try:
        value: Any = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return Identity.from_dict(value) if isinstance(value, dict) else None


def _claim(descriptor: int, path: Path) -> None:
    """Take the kernel's lock, or raise RunBusy."""
    deadline = time.monotonic() + _DYING
    while not _flock(descriptor, path):
        owner = holder(path)
        gone = owner is not None and owner.alive() is False
        if not gone or time.monotonic() > deadline:
            raise _busy(path)
        time.sleep(0.02)  # it is dead, but the kernel has not yet ended all of its threads


def _flock(descriptor: int, path: Path) -> bool:
    """Whether the lock is ours now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        if error.errno not in _UNSUPPORTED:
            raise storage_error(error, path) from error
        owner = holder(path)
        return owner is None or owner.pid == os.getpid() or owner.alive() is False
    return True


def _busy(path: Path) -> RunBusy:
    owner, run = holder(path), path.parent.name
    who = f"process {owner.pid} on {owner.host}" if owner else "another process"
    return RunBusy(
        f"run {run} is being trained by {who}; follow it with `ftrun tail -f {run}`, "
        f"stop it with `ftrun stop {run}`"
    )


_open_descriptors: set[int] = set()


def _close_in_child() -> None:
    """A forked child (data workers) must not keep the lock alive after its parent's death."""
    for descriptor in list(_open_descriptors):
        with contextlib.suppress(OSError):
            os.close(descriptor)
    _open_descriptors.clear()


os.register_at_fork(after_in_child=_close_in_child)
