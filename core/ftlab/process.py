"""Which process is meant: pid + start time + boot id + pid namespace, safe against pid reuse.

A pid alone is recycled by the kernel, restarts at a reboot, and means something else inside a
container; the four together name one process for good. Standard library only; Linux first, other
systems know less and are believed less.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Identity:
    """The name of one process. `start_time` is in clock ticks since boot (field 22 of its stat)."""

    pid: int
    start_time: int | None
    boot_id: str
    host: str
    pid_namespace: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a process of this machine."""
        return cls(pid, start_time(pid), boot_id(), socket.gethostname(), pid_namespace())

    @classmethod
    def mine(cls) -> Identity:
        """The identity of the calling process."""
        return cls.of(os.getpid())

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Identity | None:
        """What `to_dict` gave, from any version; None when no process is named."""
        pid = value.get("pid")
        if not isinstance(pid, int) or pid <= 0:
            return None
        start = value.get("start_time")
        return cls(
            pid,
            start if isinstance(start, int) else None,
            str(value.get("boot_id") or ""),
            str(value.get("host") or ""),
            str(value.get("pid_namespace") or ""),
        )

    def to_dict(self) -> dict[str, Any]:
        """The identity as JSON values."""
        return {
            "pid": self.pid,
            "start_time": self.start_time,
            "boot_id": self.boot_id,
            "host": self.host,
            "pid_namespace": self.pid_namespace,
        }

    def alive(self) -> bool | None:
        """Whether it runs now; None when it cannot be seen from here (other host or container)."""
        if self.boot_id != boot_id():
            return False if self.host == socket.gethostname() else None
        if self.pid_namespace != pid_namespace():
            return None
        if not _exists(self.pid):
            return False
        return self.start_time is None or start_time(self.pid) == self.start_time

    def signal(self, number: int, *, group: bool = False) -> bool:
        """Send a signal to exactly this process (and its group); False when it is not running.

        The process is pinned by a file descriptor before its start time is compared, so that the
        signal cannot reach another one that got the same pid in between.
        """
        pinned = _pin(self.pid)
        try:
            if not self.alive():
                return False
            if group:
                os.killpg(self.pid, number)
            elif pinned is not None:
                signal.pidfd_send_signal(pinned, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            return False
        finally:
            if pinned is not None:
                os.close(pinned)
        return True


def die_with_parent() -> None:
    """From now on this process is killed when its parent dies, however that happens. Linux only."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start_time(pid: int) -> int | None:
    """Clock ticks since boot at which `pid` started; None when it is gone, a zombie or unknown."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold spaces and brackets
    return None if fields[0] in "ZX" else int(fields[19])


def boot_id() -> str:
    """The kernel's random id of this boot; "" where there is none."""
    return _read("/proc/sys/kernel/random/boot_id")


def pid_namespace() -> str:
    """The pid namespace of this process, such as "pid:[4026531836]"; "" where there is none."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def monotonic() -> float:
    """Seconds since boot including sleep: comparable between processes, immune to clock changes."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def _exists(pid: int) -> bool:
    if os.path.isdir("/proc/self"):
        return start_time(pid) is not None
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _pin(pid: int) -> int | None:
    with contextlib.suppress(OSError, AttributeError):
        return os.pidfd_open(pid)
    return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""
