"""The files of a local model: sizes, pointers of Git LFS, shards that are missing or cut off."""

from __future__ import annotations

import json
import os
from typing import Any

from ftlab_doctor.collect.reading import names, text


def describe(name: str) -> dict[str, Any]:
    """What lies in the folder of a local model: sizes, pointers of Git LFS, shards that are missing."""
    folder = os.path.expanduser(name)
    if not name or not os.path.isdir(folder):
        return {}
    sizes = {
        file: os.path.getsize(os.path.join(folder, file))
        for file in names(folder) or []
        if file.endswith((".safetensors", ".bin", ".json", ".model", ".gguf"))
        and os.path.exists(os.path.join(folder, file))
    }
    pointers = [
        file for file, size in sizes.items()
        if size < 1024 and str(text(os.path.join(folder, file), 64)).startswith("version https://git-lfs")
    ]  # fmt: skip
    missing: set[str] = set()
    for index in (file for file in sizes if file.endswith(".index.json")):
        try:
            said = json.loads(str(text(os.path.join(folder, index), 1 << 24)))["weight_map"]
            missing |= set(said.values()) - sizes.keys()
        except (ValueError, KeyError, TypeError, AttributeError):
            if index not in pointers:
                pointers.append(index)
    short = [file for file, size in sizes.items() if file.endswith(".safetensors") and file not in pointers and _short(folder, file, size)]  # fmt: skip
    return {"model": {"path": folder, "files": sizes, "pointers": pointers, "missing": sorted(missing), "short": short}}  # fmt: skip


def _short(folder: str, file: str, size: int) -> bool:
    """Whether a safetensors file ends before its header says: a download that was cut off."""
    try:
        with open(os.path.join(folder, file), "rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > min(size, 1 << 27):
                return True
            header = json.loads(stream.read(length))
            ends = [t["data_offsets"][1] for n, t in header.items() if n != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return True
    return 8 + length + max(ends, default=0) > size
