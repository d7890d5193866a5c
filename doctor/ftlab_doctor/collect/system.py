"""Kernel, distribution, C library, processor, memory, limits, clock, and who is asking."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import resource
import time
from typing import Any

from ftlab_doctor.collect import cgroup
from ftlab_doctor.collect.reading import text


def collect(facts: dict[str, Any]) -> None:
    """Fill `system`, and `identity`, which only the redaction reads and removes."""
    uname = os.uname()
    memory = _pairs(str(text("/proc/meminfo")))
    facts["system"] = {
        "kernel": uname.release, "build": uname.version, "machine": uname.machine,
        "name": uname.sysname, "os": _release(str(text("/etc/os-release") or "")),
        "libc": _libc(), "cpu": _cpu(), "cores": len(os.sched_getaffinity(0)),
        "memory": {name: memory.get(name, 0) * 1024 for name in ("MemTotal", "MemAvailable", "SwapTotal")},
        "limits": {name: _limit(name) for name in ("AS", "MEMLOCK", "NOFILE", "NPROC", "STACK")},
        "uid": os.getuid(), "named": _named(), "interfaces": sorted(os.listdir("/sys/class/net")) if os.path.isdir("/sys/class/net") else [],
        "gids": sorted(os.getgroups()), "time": int(time.time()),
        "cgroup": cgroup.limits(),
    }  # fmt: skip
    facts["identity"] = identity()


def identity() -> dict[str, list[str] | str]:
    """Names that must not leave this machine."""
    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER", "USERNAME")}
    with contextlib.suppress(KeyError):
        users.add(pwd.getpwuid(os.getuid()).pw_name)
    hosts = {os.uname().nodename, os.environ.get("HOSTNAME", "")}
    return {
        "users": sorted(user for user in users if user),
        "hosts": sorted(host for host in hosts if host),
        "home": os.path.expanduser("~"),
    }


def _named() -> bool:
    """Whether this user has a name: getpass.getuser() fails for a bare number in a container."""
    if any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        return True
    try:
        return bool(pwd.getpwuid(os.getuid()).pw_name)
    except KeyError:
        return False


def _libc() -> list[str]:
    """Name and version of the C library; empty texts where it does not tell (musl)."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        name, version = "", ""
    if not name and glob.glob("/lib/ld-musl-*"):
        name = "musl"
    return [name, version]


def _release(content: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in content.splitlines())
    known = {name: value.strip("\"'") for name, _, value in pairs}
    return {
        name: known[name]
        for name in ("ID", "ID_LIKE", "VERSION_ID", "PRETTY_NAME")
        if name in known
    }


def _pairs(content: str) -> dict[str, int]:
    found = {}
    for line in content.splitlines():
        name, _, value = line.partition(":")
        if value.split():
            found[name] = int(value.split()[0])
    return found


def _cpu() -> dict[str, Any]:
    """Model and the flags that binaries rely on, of the first processor."""
    wanted = {
        "amx_bf16",
        "avx",
        "avx2",
        "avx512_bf16",
        "avx512f",
        "f16c",
        "fma",
        "hypervisor",
        "sse4_2",
    }
    model, flags = "", list[str]()
    for line in str(text("/proc/cpuinfo", 16384)).splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name" and not model:
            model = value.strip()
        if name.strip() == "flags" and not flags:
            flags = sorted(wanted & set(value.split()))
    return {"model": model, "flags": flags}


def _limit(name: str) -> int:
    soft = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
    return -1 if soft == resource.RLIM_INFINITY else soft
