"""What this process's control group may use: of its own group and of every group above it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ftlab_doctor.collect.reading import text

ROOT = "/sys/fs/cgroup"
UNLIMITED = 1 << 60
# name: controllers and files of version 1, file of version 2
FILES = {
    "memory": (("memory",), "memory.limit_in_bytes", "memory.max"),
    "pids": (("pids",), "pids.max", "pids.max"),
}


def limits(root: str = ROOT, own: str = "/proc/self/cgroup") -> dict[str, int]:
    """memory in bytes, cpu in thousandths of a processor, pids; -1 is no limit.

    A job of Slurm or a unit of systemd has its limit in a group below the root; inside a container
    the group looks like the root. The least of all groups on the way counts.
    """
    said = text(own)
    groups = _groups(said if isinstance(said, str) else "")
    found = {
        name: _least(
            _number(text(f"{folder}/{file}"))
            for file, folder in (
                *((v1, f) for c in controllers for f in _up(f"{root}/{c}", groups.get(c, "/"))),
                *((v2, f) for f in _up(root, groups.get("", "/"))),
            )
        )
        for name, (controllers, v1, v2) in FILES.items()
    }
    found["cpu"] = _least(_quotas(root, groups))
    return found


def _groups(content: str) -> dict[str, str]:
    """Controller -> path of this process's group; "" is version 2's."""
    found = {}
    for line in content.splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                found[controller] = parts[2]
    return found


def _up(root: str, group: str) -> Iterator[str]:
    """The folders of a group and of all above it."""
    while group not in ("", "/") and ".." not in group:
        yield root + group
        group = os.path.dirname(group)
    yield root


def _quotas(root: str, groups: dict[str, str]) -> Iterator[int]:
    for folder in _up(root, groups.get("", "/")):
        quota, _, period = str(text(f"{folder}/cpu.max")).strip().partition(" ")
        yield _share(quota, period)
    for controller in ("cpu", "cpu,cpuacct"):
        for folder in _up(f"{root}/{controller}", groups.get("cpu", "/")):
            quota, period = (str(text(f"{folder}/cpu.cfs_{n}_us")).strip() for n in ("quota", "period"))  # fmt: skip
            yield _share(quota, period)


def _share(quota: str, period: str) -> int:
    if not (quota.isdigit() and period.isdigit()) or int(period) == 0:
        return -1
    return int(quota) * 1000 // int(period)


def _number(value: object) -> int:
    digits = str(value).strip()
    return int(digits) if digits.isdigit() and int(digits) < UNLIMITED else -1


def _least(values: Iterator[int]) -> int:
    return min((value for value in values if value >= 0), default=-1)
