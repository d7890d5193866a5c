"""Folders that training writes to: where they are, on what filesystem, and whether they can be used."""

from __future__ import annotations

import errno
import os
import tempfile
from typing import Any


def collect(facts: dict[str, Any]) -> None:
    """Fill `places`."""
    facts["places"] = {name: describe(path) for name, path in folders().items()}


def folders() -> dict[str, str]:
    """Where each kind of file goes, by the rules of the library that writes it."""
    env = os.environ.get
    home = os.path.expanduser("~")
    cache = env("XDG_CACHE_HOME") or os.path.join(home, ".cache")
    temporary = env("TMPDIR") or tempfile.gettempdir()
    user = env("USER") or env("LOGNAME") or str(os.getuid())
    hf = env("HF_HOME") or os.path.join(cache, "huggingface")
    triton = env("TRITON_CACHE_DIR") or os.path.join(env("TRITON_HOME") or home, ".triton", "cache")
    inductor = env("TORCHINDUCTOR_CACHE_DIR") or os.path.join(temporary, f"torchinductor_{user}")
    return {
        "home": home, "cwd": os.getcwd(), "tmp": temporary, "shm": "/dev/shm",
        "hf": env("HF_HUB_CACHE") or os.path.join(hf, "hub"), "triton": triton, "inductor": inductor,
        "datasets": env("HF_DATASETS_CACHE") or os.path.join(hf, "datasets"),
        "extensions": env("TORCH_EXTENSIONS_DIR") or os.path.join(cache, "torch_extensions"),
        "cuda": env("CUDA_CACHE_PATH") or os.path.join(home, ".nv", "ComputeCache"),
        "runs": env("FTLAB_RUNS") or os.path.join(os.getcwd(), "runs"),
    }  # fmt: skip


def describe(path: str) -> dict[str, Any]:
    """Facts of a folder, or of the nearest folder above it that exists."""
    path = os.path.abspath(path)
    there = path
    while not os.path.exists(there) and there != "/":
        there = os.path.dirname(there)
    real = os.path.realpath(there)
    place: dict[str, Any] = {"path": path, "exists": there == path, "nearest": real}
    try:
        status, room = os.stat(real), os.statvfs(real)
    except OSError as error:
        return {**place, "error": errno.errorcode.get(error.errno or 0, "?")}
    place |= {
        "owner": status.st_uid, "mode": oct(status.st_mode & 0o7777), "total": room.f_frsize * room.f_blocks,
        "free": room.f_frsize * room.f_bavail, "inodes": room.f_files, "inodes_free": room.f_favail,
        "directory": os.path.isdir(real), "refused": _refused(real),
    }  # fmt: skip
    return place


def _refused(folder: str) -> str:
    """ "" if a file can be made here, else the name of the error. The file never gets a name."""
    if not os.path.isdir(folder):
        return "ENOTDIR"
    try:
        os.close(os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600))
        return ""
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT):
            return "" if os.access(folder, os.W_OK | os.X_OK) else "EACCES"
        return errno.errorcode.get(error.errno or 0, "?")
