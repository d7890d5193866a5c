"""What would the dynamic loader load? Its rules, applied to the facts of a snapshot.

For each library that is needed: the RPATHs of the one that needs it and of its loaders (unless it has
a RUNPATH), then LD_LIBRARY_PATH, then its RUNPATH, then the cache of ldconfig, then the default
folders. A library that is already loaded under that name is not looked for again.
Source: ld.so(8), "The Dynamic Linker/Loader".
"""

from __future__ import annotations

import os
import re
from functools import lru_cache
from typing import NamedTuple

from ftlab_doctor.host import Host

DEFAULT = (
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
)  # fmt: skip


class Loaded(NamedTuple):
    """One library as the loader would take it."""

    name: str  # as it was asked for
    path: str  # where it was found; "" if nowhere
    real: str  # after symbolic links: here the version shows
    way: str  # rpath, LD_LIBRARY_PATH, runpath, cache, default, given
    wanted_by: str  # path of the library that needs it


def cache(host: Host) -> dict[str, str]:
    """Name -> path of `ldconfig -p`; the first line of a name wins."""
    answer = host.command("ldconfig")
    found: dict[str, str] = {}
    for line in (answer.out if answer else "").splitlines():
        match = re.match(r"\s*(\S+) \(([^)]*)\) => (\S+)", line)
        if match and ("x86-64" in match[2] or "AArch64" in match[2] or "libc6)" in match[2] + ")"):
            found.setdefault(match[1], match[3])
    return found


def search_path(host: Host) -> list[str]:
    """The folders of LD_LIBRARY_PATH; an empty part is the working folder."""
    value = host.env("LD_LIBRARY_PATH")
    return [part or "." for part in re.split("[:;]", value)] if value else []


def inside(host: Host, folder: str, name: str) -> str | None:
    """The real path of a library in a folder; None if it is not there."""
    folder = folder.rstrip("/") or "/"
    entry = (host.section("libraries").get("dirs") or {}).get(folder, {}).get(name)
    if not isinstance(entry, str):
        return None
    return entry if entry.startswith("/") else f"{folder}/{entry}"


def find(host: Host, name: str, wanted_by: str = "", rpaths: tuple[str, ...] = ()) -> Loaded:
    """Where one library would be found."""
    elf = host.section("elf").get(wanted_by) or {}
    ways: list[tuple[str, list[str]]] = [
        ("rpath", [] if elf.get("runpath") else [*elf.get("rpath", []), *rpaths]),
        ("LD_LIBRARY_PATH", search_path(host)),
        ("runpath", elf.get("runpath", [])),
    ]
    for way, folders in ways:
        for folder in folders:
            real = inside(host, folder, name)
            if real:
                return Loaded(name, f"{folder.rstrip('/')}/{name}", real, way, wanted_by)
    cached = cache(host).get(name)
    if cached:
        real = inside(host, os.path.dirname(cached), name) or cached
        return Loaded(name, cached, real, "cache", wanted_by)
    for folder in DEFAULT:
        real = inside(host, folder, name)
        if real:
            return Loaded(name, f"{folder}/{name}", real, "default", wanted_by)
    return Loaded(name, "", "", "", wanted_by)


def load(host: Host, roots: list[str]) -> dict[str, Loaded]:
    """Everything that loading `roots`, one after another, would bring in, by name."""
    loaded: dict[str, Loaded] = {}
    for root in roots:
        if root not in host.section("elf"):
            continue
        name = os.path.basename(root)
        loaded.setdefault(name, Loaded(name, root, root, "given", ""))
        queue: list[tuple[str, tuple[str, ...]]] = [(root, ())]
        while queue:  # breadth first, as the loader does
            path, rpaths = queue.pop(0)
            elf = host.section("elf").get(path) or {}
            chain = rpaths if elf.get("runpath") else (*elf.get("rpath", []), *rpaths)
            for needed in elf.get("needed", []):
                if needed in loaded:
                    continue
                found = find(host, needed, path, rpaths)
                loaded[needed] = found
                if found.real and found.real in host.section("elf"):
                    queue.append((found.real, chain))
    return loaded


@lru_cache(maxsize=4)
def _roots(site: str) -> tuple[str, ...]:
    return tuple(
        f"{site}/torch/lib/{name}.so"
        for name in ("libtorch_global_deps", "libc10", "libtorch_cpu", "libc10_cuda", "libtorch_cuda",
                     "libtorch_cuda_linalg", "libtorch", "libtorch_python")
    )  # fmt: skip


def torch_loads(host: Host) -> dict[str, Loaded]:
    """Everything that `import torch` would bring in."""
    return load(host, list(_roots(host.site)))


def version_in(real: str) -> str:
    """The version in a file name: libcudnn.so.8.9.2 -> 8.9.2."""
    match = re.search(r"\.so\.([\d.]+)$", real)
    return match[1] if match else ""
