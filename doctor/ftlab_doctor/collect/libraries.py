"""Where libraries lie: the loader's cache and the folders that the loader, conda or torch look into."""

from __future__ import annotations

import glob
import os
import re
from typing import Any

from ftlab_doctor.collect.reading import put

DEFAULT = (
    "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib",
)  # fmt: skip
INTERESTING = re.compile(
    r"lib(cuda|nv|nccl|cu(dart|blas|dnn|fft|rand|sparse|solver|pti|file)|stdc\+\+|gomp|iomp|mkl|torch|c10"
    r"|caffe|dxcore|gcc_s|z\.so)"
)


def collect(facts: dict[str, Any]) -> None:
    """Fill `libraries.dirs`: folder -> {name: where it really lies}."""
    facts["libraries"] = {"dirs": {}}
    for folder in DEFAULT:
        _list(facts, folder, INTERESTING)
    for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if folder:
            _list(facts, os.path.abspath(folder), INTERESTING)
    if os.environ.get("TRITON_LIBCUDA_PATH"):
        _list(facts, os.path.abspath(os.environ["TRITON_LIBCUDA_PATH"]), INTERESTING)
    prefix = facts["python"]["prefix"]
    extra = [
        os.path.join(prefix, "lib"),
        "/usr/lib/wsl/lib",
        "/usr/local/nvidia/lib64",
        "/.singularity.d/libs",
        "/run/opengl-driver/lib",
        "/usr/lib/nvidia",
        "/usr/lib64/nvidia",
        "/usr/lib64-nvidia",
        "/usr/lib/x86_64-linux-gnu/nvidia/current",
    ]
    for folder in [
        *extra,
        *glob.glob("/usr/local/cuda*/lib64"),
        *glob.glob("/usr/local/cuda*/compat"),
    ]:
        _list(facts, folder, INTERESTING)
    for site in dict.fromkeys(
        p["location"] for p in facts["packages"] if p["name"] in ("torch", "triton")
    ):
        _list(facts, os.path.join(site, "torch/lib"), None)
        for folder in sorted(glob.glob(os.path.join(site, "nvidia/*/lib"))):
            _list(facts, folder, None)


def _list(facts: dict[str, Any], folder: str, wanted: re.Pattern[str] | None) -> None:
    if folder in facts["libraries"]["dirs"]:
        return
    try:
        with os.scandir(folder) as entries:
            inside = [e for e in entries if ".so" in e.name and (wanted is None or wanted.match(e.name))]  # fmt: skip
    except OSError:
        return
    found, here = {}, os.path.realpath(folder)
    for entry in sorted(inside, key=lambda entry: entry.name):
        found[entry.name] = entry.name
        if entry.is_symlink():
            real = os.path.realpath(entry.path)
            found[entry.name] = os.path.basename(real) if os.path.dirname(real) == here else real
    put(facts["libraries"], "dirs", folder, found)
