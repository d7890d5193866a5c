"""What wheels say that they were built for, read from their files without importing them."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterator
from typing import Any

from ftlab_doctor.collect.commands import run
from ftlab_doctor.collect.reading import put, text
from ftlab_doctor.elf import Elf, NotElf
from ftlab_doctor.host import Host

FLAGS = re.compile(rb"(?:(?:sm|compute)_\d{2,3}[a-z]? )*(?:sm|compute)_\d{2,3}[a-z]?\0")
CHUNK = 1 << 20


def collect(facts: dict[str, Any]) -> None:
    """Fill `builds`."""
    site = Host(facts).site
    facts["builds"] = {}
    for name, read in (
        ("torch", _torch), ("xformers", _xformers), ("bitsandbytes", _bitsandbytes),
        ("flash-attn", _flash), ("triton", _triton),
    ):  # fmt: skip
        found = read(site)
        if found:
            put(facts, "builds", name, found)


def _torch(site: str) -> dict[str, Any]:
    content = text(f"{site}/torch/version.py", 4096)
    if not isinstance(content, str):
        return {}
    found: dict[str, Any] = {}
    for name, pattern in (
        ("version", "__version__"),
        ("cuda", "cuda"),
        ("hip", "hip"),
        ("xpu", "xpu"),
    ):
        match = re.search(rf"^{pattern}(?::[^=]*)? = (?:'([^']*)'|None)", content, re.MULTILINE)
        if match and match[1]:
            found[name] = match[1]
    cuda = os.path.exists(f"{site}/torch/lib/libtorch_cuda.so")
    found["libtorch_cuda"] = cuda
    if cuda:
        found["arch"] = _flags(f"{site}/torch/lib/libtorch_python.so") or _code(
            f"{site}/torch/lib/libtorch_cuda.so", 60
        )
    return found


def _flags(path: str) -> list[str]:
    """The list of architectures that torch prints as torch.cuda.get_arch_list()."""
    try:
        with Elf(path) as elf:
            place = elf.section(".rodata")
    except (NotElf, OSError):
        return []
    for piece in _pieces(path, *(place or (0, 0))):
        at = piece.find(b"sm_")
        while at >= 0:  # a search for a plain word is many times faster than one for a pattern
            match = FLAGS.match(piece, piece.rfind(b"\0", 0, at) + 1)
            if match and b" " in match[0]:
                return match[0][:-1].decode().split()
            at = piece.find(b"sm_", at + 3)
    return []


def _pieces(path: str, offset: int, length: int) -> Iterator[bytes]:
    """The section in pieces that overlap, so that nothing is cut and little memory is taken."""
    with open(path, "rb", buffering=0) as file:
        for start in range(offset, offset + length, CHUNK):
            yield os.pread(file.fileno(), min(CHUNK + 256, offset + length - start), start)


def _code(path: str, limit: int = 400) -> list[str]:
    try:
        with Elf(path) as elf:
            return elf.cuda_code(limit)
    except (NotElf, OSError, ValueError):
        return []


def _xformers(site: str) -> dict[str, Any]:
    content = text(f"{site}/xformers/cpp_lib.json", 1 << 16)
    try:
        said = json.loads(content) if isinstance(content, str) else {}
    except ValueError:
        return {"broken": "cpp_lib.json is no JSON"}
    version, environment = said.get("version", {}), said.get("env", {})
    found = {
        "torch": version.get("torch"),
        "cuda": version.get("cuda"),
        "python": version.get("python"),
    }
    found["arch_list"] = environment.get("TORCH_CUDA_ARCH_LIST")
    found["arch"] = _code(f"{site}/xformers/_C.so", 200)
    return {name: value for name, value in found.items() if value}


def _bitsandbytes(site: str) -> dict[str, Any]:
    binaries = sorted(glob.glob(f"{site}/bitsandbytes/libbitsandbytes_cuda*.so"))
    if not os.path.isdir(f"{site}/bitsandbytes"):
        return {}
    found = {}
    for path in binaries:
        match = re.search(r"cuda(\d+)", os.path.basename(path))
        if match:
            found[match[1]] = _code(path, 8)
    return {"binaries": found}


def _flash(site: str) -> dict[str, Any]:
    binaries = glob.glob(f"{site}/flash_attn_2_cuda*.so")
    return (
        {"arch": _code(binaries[0], 40), "binary": os.path.basename(binaries[0])}
        if binaries
        else {}
    )


def _triton(site: str) -> dict[str, Any]:
    """The version of the ptxas inside, which decides the newest card it can compile for."""
    folder = f"{site}/triton/backends/nvidia/bin"
    found: dict[str, Any] = {}
    for name in ("ptxas", "ptxas-blackwell"):
        path = f"{folder}/{name}"
        if os.path.exists(path):
            answer = run([path, "--version"], 3.0)
            match = re.search(r"release ([\d.]+)", str(answer.get("out", "")))
            found[name] = (
                match[1]
                if match
                else f"does not run: {answer.get('error') or answer.get('err', '')[-120:]}"
            )
    override = os.environ.get("TRITON_PTXAS_PATH")
    if override:
        answer = run([override, "--version"], 3.0)
        match = re.search(r"release ([\d.]+)", str(answer.get("out", "")))
        found["override"] = match[1] if match else "does not run"
    return found
