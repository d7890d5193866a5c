"""What compiled files need: libraries, search paths, C library versions, symbols that nobody defines."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable
from typing import Any

from ftlab_doctor import loader
from ftlab_doctor.collect.reading import put
from ftlab_doctor.elf import NEEDED, RPATH, RUNPATH, SONAME, Elf, NotElf, gnu_hash
from ftlab_doctor.host import Host

# Compiled extensions that are built against one torch, and libraries that link to their siblings.
EXTENSIONS = (
    "xformers/_C.so", "xformers/*_C*.so", "flash_attn_2_cuda*.so", "torchvision/_C.so", "torchaudio/lib/*.so",
    "causal_conv1d_cuda*.so", "selective_scan_cuda*.so", "deepspeed/ops/*/*.so", "apex_C*.so", "flash_attn_3/*.so",
    "vllm/_C*.so", "torchao/_C*.so", "exllamav2_ext*.so", "gptqmodel*/*_ext*.so", "detectron2/_C*.so",
)  # fmt: skip
OTHERS = (
    "bitsandbytes/libbitsandbytes_cuda1*.so",
    "triton/_C/libtriton.so",
    "triton/_C/libtriton*.so",
)
TORCH = (
    "libc10.so",
    "libc10_cuda.so",
    "libtorch_cpu.so",
    "libtorch_cuda.so",
    "libtorch_python.so",
    "libtorch.so",
)
VERSIONED = re.compile(r"(GLIBC|GLIBCXX|CXXABI)_([\d.]+)\Z")
FOREIGN = re.compile(
    r"_?_?(nvJitLink|cupti|cudnn|nccl|cublas|cusparse|cusolver|cufft|curand|iJIT|nvrtc)"
)
TORCHS = re.compile(r"_ZNK?(S_)?(\d|[A-Z])*?(3c10|2at|5torch)|aoti_torch_")
ENOUGH = 6  # names of missing symbols that are kept


def collect(facts: dict[str, Any]) -> None:
    """Fill `elf`."""
    host = Host(facts)
    site = host.site
    facts["elf"] = {}
    wanted = sorted(glob.glob(f"{site}/torch/lib/*.so*") + glob.glob(f"{site}/nvidia/*/lib/*.so*"))
    extensions = [path for pattern in EXTENSIONS for path in sorted(glob.glob(f"{site}/{pattern}"))]
    others = [path for pattern in OTHERS for path in sorted(glob.glob(f"{site}/{pattern}"))]
    for path in dict.fromkeys([*wanted, *extensions, *others]):
        put(facts, "elf", path, describe(path))
    _follow(facts)
    _symbols(facts, extensions)


def describe(path: str) -> dict[str, Any]:
    """The dynamic section of one file; `broken` if it cannot be read as ELF."""
    try:
        with Elf(path) as elf:
            folder = os.path.dirname(path)
            found: dict[str, Any] = {"needed": elf.strings(NEEDED)}
            for name, tag in (("rpath", RPATH), ("runpath", RUNPATH)):
                folders = [part for value in elf.strings(tag) for part in value.split(":") if part]
                if folders:
                    found[name] = [_origin(part, folder) for part in folders]
            if elf.strings(SONAME) != [os.path.basename(path)]:
                found["soname"] = "".join(elf.strings(SONAME))
            versions = highest(v for names in elf.needed_versions().values() for v in names)
            return found | ({"versions": versions} if versions else {})
    except (NotElf, OSError, ValueError) as error:
        return {"broken": type(error).__name__}


def highest(versions: Iterable[str]) -> dict[str, str]:
    """GLIBC, GLIBCXX, CXXABI -> the highest version asked for."""
    best: dict[str, tuple[int, ...]] = {}
    for version in versions:
        match = VERSIONED.match(version)
        if match:
            number = tuple(int(part) for part in match[2].split("."))
            best[match[1]] = max(best.get(match[1], ()), number)
    return {name: ".".join(map(str, number)) for name, number in sorted(best.items())}


def _origin(part: str, folder: str) -> str:
    return os.path.normpath(part.replace("${ORIGIN}", folder).replace("$ORIGIN", folder))


def _follow(facts: dict[str, Any]) -> None:
    """Read also the libraries from elsewhere that torch would load instead of its own."""
    for _ in range(3):
        host = Host(facts)
        new = {
            lib.real for lib in loader.torch_loads(host).values()
            if lib.real and lib.real not in facts["elf"] and FOREIGN.match(lib.name.removeprefix("lib"))
        }  # fmt: skip
        for path in new:
            put(facts, "elf", path, describe(path))
        if not new:
            return


def _symbols(facts: dict[str, Any], extensions: list[str]) -> None:
    """For each file: symbols that none of the libraries it would get defines."""
    host = Host(facts)
    loaded = loader.torch_loads(host)
    torch = [
        f"{host.site}/torch/lib/{name}"
        for name in TORCH
        if f"{host.site}/torch/lib/{name}" in facts["elf"]
    ]
    cupti = {f"lib{name}" for name in ("cupti", "nvJitLink", "cudnn", "nccl", "cublas")}
    foreign = [
        lib for lib in loaded.values()
        if lib.real and not lib.real.startswith(f"{host.site}/") and lib.name.split(".so")[0] in cupti
    ]  # fmt: skip
    for lib in foreign:
        stem = lib.name.split(".so")[0].removeprefix("lib")
        users = [p for p in facts["elf"] if lib.name in facts["elf"][p].get("needed", [])]
        for user in users:
            _store(facts, user, _missing(user, [lib.real], re.compile(rf"_?_?{stem}")))
    for path in extensions:
        if torch:
            _store(facts, path, _missing(path, torch, TORCHS))


def _store(facts: dict[str, Any], path: str, missing: list[str]) -> None:
    if missing:
        facts["elf"][path].setdefault("missing", []).extend(missing)


def _missing(path: str, providers: list[str], wanted: re.Pattern[str]) -> list[str]:
    opened: list[Elf] = []
    try:
        opened = [Elf(provider) for provider in providers]
        with Elf(path) as elf:
            lost = []
            for name in elf.undefined():
                if not wanted.match(name):
                    continue
                code = gnu_hash(name)
                if not any(library.defines(name, code) for library in opened):
                    lost.append(name)
                    if len(lost) >= ENOUGH:
                        break
            return lost
    except (NotElf, OSError, ValueError, IndexError):
        return []
    finally:
        for library in opened:
            library.data.close()
