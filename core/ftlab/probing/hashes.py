"""sha256 of large files, each read once: remembered by path, size and modification time."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from ftlab.atomic import clear_errors
from ftlab.probing import remember

CHUNK = 1 << 22
SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def file_sha256(path: Path, *, cache: bool = True) -> str:
    """The sha256 of a file's contents.

    A blob of the Hugging Face cache that came through LFS is named by its sha256, so it is not
    read at all.
    """
    real = Path(os.path.realpath(path))
    if real.parent.name == "blobs" and SHA256.match(real.name):
        return real.name
    with clear_errors(path):
        state = real.stat()
    key = remember.key("sha256", str(real), state.st_size, state.st_mtime_ns)
    known = remember.load("sha256", key) if cache else None
    if isinstance(known, str):
        return known
    digest = _read_through(real, state.st_size)
    remember.save("sha256", key, digest)
    return digest


def files_sha256(paths: Iterable[Path], *, cache: bool = True) -> str:
    """One hash over names and contents of several files, in the order of their names."""
    state = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.name):
        state.update(f"{path.name} {file_sha256(path, cache=cache)}\n".encode())
    return state.hexdigest()


def named_sha256(digests: dict[str, str]) -> str:
    """The same hash as `files_sha256` from names and known digests."""
    state = hashlib.sha256()
    for name in sorted(digests):
        state.update(f"{name} {digests[name]}\n".encode())
    return state.hexdigest()


def text_sha256(text: str) -> str:
    """The sha256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def _read_through(path: Path, size: int) -> str:
    from tqdm import tqdm

    state = hashlib.sha256()
    with (
        clear_errors(path),
        path.open("rb") as file,
        tqdm(
            total=size,
            desc=f"hashing {path.name}",
            unit="B",
            unit_scale=True,
            unit_divisor=1024,
            leave=False,
            file=sys.stderr,
            disable=None if size > 1 << 28 else True,
        ) as bar,
    ):
        while block := file.read(CHUNK):
            state.update(block)
            bar.update(len(block))
    return state.hexdigest()
