"""CUDA libraries as the loader would resolve them: present, torch's own, of the right version."""

from __future__ import annotations

import re

from ftlab_doctor import loader, stack
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release

CUDA = re.compile(
    r"lib(cudart|cublas|cublasLt|cudnn\w*|cufft|curand|cusparse|cusparseLt|cusolver|cupti|nvJitLink|nvrtc|nccl|nvToolsExt|nvshmem\w*|cufile)\.so"
)


def _own(host: Host, lib: loader.Loaded) -> bool:
    prefix = str(host.python.get("prefix", ""))
    conda = bool(host.python.get("conda")) and bool(prefix) and lib.real.startswith(prefix + "/")
    return lib.real.startswith(f"{host.site}/") or conda


@check("lib.broken", "Are the compiled files readable?")
def broken(host: Host) -> Finding:
    """A truncated download or a Git LFS pointer in the place of a library."""
    if not host.section("elf"):
        return skip("no compiled package was looked at")
    bad = [path for path, facts in host.section("elf").items() if facts.get("broken")]
    if not bad:
        return ok(f"{len(host.section('elf'))} files")
    package = owner(host, bad[0])
    return fail(f"{bad[0].rsplit('/', 1)[-1]} is damaged: it is no shared library", observed=bad[0], evidence=[(bad[0], "no ELF file")],
                why="an interrupted download or a full disk", fix=f"pip install --force-reinstall --no-cache-dir --no-deps {package}")  # fmt: skip


def owner(host: Host, path: str) -> str:
    """The package that a compiled file belongs to, as name==version where that is known."""
    name = path.removeprefix(host.site + "/")
    match = re.match(r"nvidia/([a-z_]+)/", name)
    if match:
        stem = match[1].replace("_", "-")
        for item in host.packages:
            if item["name"].replace("_", "-").startswith(f"nvidia-{stem}"):
                return f"{item['name']}=={item['version']}"
    top = name.split("/")[0].split(".")[0]
    package = host.package(top) or host.package(top.replace("_2_cuda", ""))
    return f"{package['name']}=={package['version']}" if package else top


def untraceable(host: Host, loaded: dict[str, loader.Loaded]) -> Finding | None:
    """Why nothing can be said about what a library needs; None where it can."""
    if not loaded:
        return skip("torch has no compiled library here")
    return None if host.has("libraries") else unknown("no folder was listed")


@check(
    "lib.missing",
    "Would the loader find every CUDA library that torch needs?",
    ("lib.broken", "env.damaged"),
)
def missing(host: Host) -> Finding:
    """The whole chain of needs, by the loader's own rules."""
    loaded = loader.torch_loads(host)
    if gap := untraceable(host, loaded):
        return gap
    lost = [lib for lib in loaded.values() if not lib.path and CUDA.match(lib.name)]
    if not lost:
        return ok(f"{sum(1 for lib in loaded.values() if CUDA.match(lib.name))} CUDA libraries")
    names = ", ".join(lib.name for lib in lost[:3])
    return fail(f"torch needs {names}, which the loader does not find", observed="not found", expected=f"{names} in site-packages/nvidia",
                evidence=[(lib.wanted_by, f"NEEDED {lib.name}") for lib in lost[:3]],
                why="an nvidia-* package is missing or was removed", fix=_torch_again(host))  # fmt: skip


def _torch_again(host: Host) -> str:
    version = stack.torch_version(host).split("+")[0]
    tag = stack.wheel_tag(stack.torch_cuda(host)) if stack.torch_cuda(host) else "cpu"
    return (
        f"pip install --force-reinstall torch=={version} -i https://download.pytorch.org/whl/{tag}"
    )


@check("lib.foreign", "Does torch get its own CUDA libraries?", ("lib.broken", "lib.missing"))
def foreign(host: Host) -> Finding:
    """A copy from elsewhere that comes first on the loader's path."""
    loaded = loader.torch_loads(host)
    if not loaded:
        return skip("torch has no compiled library here")
    if not any(_own(host, lib) for lib in loaded.values() if CUDA.match(lib.name)):
        return ok("this torch is built to use the system's libraries")
    worst: list[tuple[int, loader.Loaded, str]] = []
    for lib in loaded.values():
        if not CUDA.match(lib.name) or not lib.real or _own(host, lib):
            continue
        own = _ours(host, lib.name)
        if own is None:
            continue
        worst.append((_grave(host, lib, own), lib, own))
    if not worst:
        return ok("all from its own environment")
    grave, lib, own = max(worst, key=lambda item: item[0])
    where, named = lib.path.rsplit("/", 1)[0], lib.name.split(".so")[0]
    both = f"{loader.version_in(lib.real) or '?'} instead of {_version(host, own) or '?'}"
    fixes = ["unset LD_LIBRARY_PATH"] if lib.way == "LD_LIBRARY_PATH" else [
        Fix(f"remove {where} from /etc/ld.so.conf.d and run sudo ldconfig", "root")]  # fmt: skip
    missing = host.section("elf").get(lib.wanted_by, {}).get("missing") or []
    facts = {"observed": lib.real, "expected": own, "evidence": [(lib.way, where), (lib.wanted_by, f"NEEDED {lib.name}"),
             *[("undefined symbol", name) for name in missing[:1]]], "fix": fixes}  # fmt: skip
    if grave >= 2:
        return fail(f"torch would load a foreign {named} from {where} ({both})", **facts)
    return warn(f"torch would load {named} from {where}, not its own ({both})", **facts)


def _ours(host: Host, name: str) -> str | None:
    """Where the environment's own copy of a library is."""
    for folder, entries in (host.section("libraries").get("dirs") or {}).items():
        if name in entries and folder.startswith(f"{host.site}/"):
            return loader.inside(host, folder, name)
    return None


def _version(host: Host, real: str) -> str:
    return loader.version_in(real) or ""


def _grave(host: Host, lib: loader.Loaded, own: str) -> int:
    """2 if it will break (symbols missing, another minor version), 1 if it may."""
    missing = host.section("elf").get(lib.wanted_by, {}).get("missing")
    if missing and any(lib.name.split(".so")[0].removeprefix("lib") in name for name in missing):
        return 3
    theirs, mine = release(loader.version_in(lib.real)), release(loader.version_in(own))
    if lib.name.startswith(("libnvJitLink", "libcupti", "libcudnn")):
        return 1 if theirs == mine and theirs else 2
    return 2 if theirs and mine and theirs[:1] != mine[:1] else 1


@check(
    "lib.symbols",
    "Is every symbol that the extensions need defined?",
    ("lib.broken", "lib.missing", "lib.foreign", "env.mixed", "conflict.xformers-old"),
)
def symbols(host: Host) -> list[Finding] | Finding:
    """An extension that was compiled for another torch, or another C++ ABI."""
    found = []
    for path, facts in host.section("elf").items():
        lost = facts.get("missing")
        if not lost:
            continue
        name = path.removeprefix(f"{host.site}/")
        package = (
            "flash-attn"
            if name.startswith("flash_attn")
            else name.split("/")[0].split(".")[0].replace("_", "-")
        )
        optional = package in ("xformers", "torchaudio", "vllm", "torchao")
        version = stack.torch_version(host)
        say = warn if optional else fail
        found.append(say(
            f"{package} was compiled for another torch than {version}", observed=f"undefined symbol: {lost[0]}",
            expected=f"{package} built for torch {version}", evidence=[(path, f"undefined symbol: {lost[0]}")],
            blocks=("flash",) if package == "flash-attn" else (package,) if optional else ("train",),
            fix=_rebuild(package, version),
        ))  # fmt: skip
    if found:
        return found[0]
    return (
        ok(f"{len(host.section('elf'))} files")
        if host.section("elf")
        else skip("no compiled package was looked at")
    )


def _rebuild(package: str, version: str) -> str:
    if package == "flash-attn":
        return (
            "pip install --no-build-isolation --no-cache-dir --force-reinstall --no-deps flash-attn"
        )
    if package == "torch":
        return f"pip install --force-reinstall torch=={version.split('+')[0]}"
    return f"pip install -U --force-reinstall --no-deps {package}  # the release made for torch {version.split('+')[0]}"


@check("lib.cxx", "Is the C++ library new enough?", ("lib.broken",))
def cxx(host: Host) -> Finding:
    """GLIBCXX versions; an older libstdc++ of conda often comes first."""
    wanted: tuple[tuple[int, ...], str] = ((), "")
    for path, facts in host.section("elf").items():
        wanted = max(wanted, (release((facts.get("versions") or {}).get("GLIBCXX", "")), path))
    if not wanted[0]:
        return skip("nothing asks for it")
    found = loader.find(host, "libstdc++.so.6")
    conda = (
        loader.inside(host, f"{host.python.get('prefix')}/lib", "libstdc++.so.6")
        if host.python.get("conda")
        else None
    )
    real = conda or found.real
    have = release(loader.version_in(real))
    if len(have) < 3:
        return unknown("the version of libstdc++ is not known")
    minor = have[2]
    need = wanted[0][2] if len(wanted[0]) > 2 else 0
    if minor >= need:  # libstdc++.so.6.0.N defines GLIBCXX_3.4.N
        return ok(f"libstdc++.so.6.0.{minor}")
    return fail(f"libstdc++ is too old: GLIBCXX_3.4.{need} is wanted, it ends at 3.4.{minor}", observed=real,
                expected=f"libstdc++.so.6.0.{need}", evidence=[(wanted[1], f"GLIBCXX_3.4.{need}")],
                fix="conda install -c conda-forge 'libstdcxx-ng>=13'" if conda else Fix("sudo apt install libstdc++6", "root"))  # fmt: skip


@check("lib.preload", "Is nothing slipped in front of every library?")
def preload(host: Host) -> Finding:
    """LD_PRELOAD and /etc/ld.so.preload."""
    value = (host.env("LD_PRELOAD") or "").strip() or (
        host.text("/etc/ld.so.preload") or ""
    ).strip()
    harmless = re.compile(r"lib(tcmalloc|jemalloc|mimalloc|iomp5|gomp)")
    strange = [part for part in re.split(r"[\s:]+", value) if part and not harmless.search(part)]
    if not strange:
        return ok(value or "LD_PRELOAD is not set")
    cuda = any(CUDA.search(part) or "libcuda" in part for part in strange)
    return (fail if cuda else warn)(f"LD_PRELOAD loads {strange[0].rsplit('/', 1)[-1]} into every program", observed=value,
                expected="nothing", evidence=[("LD_PRELOAD", value)], fix="unset LD_PRELOAD")  # fmt: skip


@check(
    "lib.triton-libcuda",
    "Does Triton find libcuda the way it looks for it?",
    (
        "driver.loaded",
        "driver.library",
        "wsl.loader",
        "wsl.adapter",
        "container.gpu",
        "container.capabilities",
    ),
)
def triton_libcuda(host: Host) -> Finding:
    """TRITON_LIBCUDA_PATH, `ldconfig -p`, then LD_LIBRARY_PATH. Source: triton backends/nvidia/driver.py."""
    if not stack.expected(host) or not host.package("triton"):
        return skip("no NVIDIA GPU" if not stack.expected(host) else "no triton")
    told = host.env("TRITON_LIBCUDA_PATH")
    if told and host.has("libraries"):
        if loader.inside(host, told, "libcuda.so.1") or loader.inside(host, told, "libcuda.so"):
            return ok("TRITON_LIBCUDA_PATH")
        return fail("TRITON_LIBCUDA_PATH names a folder without libcuda", observed=told, expected="a folder with libcuda.so.1", blocks=("triton", "compile"),
                    evidence=[("TRITON_LIBCUDA_PATH", told)], fix="unset TRITON_LIBCUDA_PATH")  # fmt: skip
    if host.command("ldconfig") is None:
        return unknown("ldconfig was not asked")
    names = [n for n in loader.cache(host) if n.startswith("libcuda.so")]
    folders = [
        f
        for f in loader.search_path(host)
        if loader.inside(host, f, "libcuda.so.1") or loader.inside(host, f, "libcuda.so")
    ]
    version = release(host.version("triton") or "")
    found = bool(names or folders)
    real = str(host.section("cuda").get("path") or "")
    where = real.rsplit("/", 1)[0] or "/usr/lib/wsl/lib"
    if found and (version >= (3, 1) or "libcuda.so" in names or _bare(host)):
        return ok(names[0] if names else folders[0])
    if found:
        return fail(f"triton {host.version('triton')} links with -lcuda and there is no file libcuda.so, only libcuda.so.1",
                    expected="libcuda.so beside libcuda.so.1", fix=Fix(f"sudo ln -s libcuda.so.1 {where}/libcuda.so", "root"), blocks=("triton",),
                    evidence=[("ldconfig -p", ", ".join(names))])  # fmt: skip
    return fail("Triton does not find libcuda: the loader's cache lacks it", observed="no libcuda.so in `ldconfig -p`",
                expected="libcuda.so.1", evidence=[("ldconfig -p", "no libcuda")], blocks=("triton", "compile"),
                fix=[Fix("sudo ldconfig", "root"), f"export TRITON_LIBCUDA_PATH={where}"])  # fmt: skip


def _bare(host: Host) -> bool:
    folders = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib64",
        "/usr/lib/wsl/lib",
        "/usr/local/cuda/lib64/stubs",
        *loader.search_path(host),
    ]
    return any(loader.inside(host, folder, "libcuda.so") for folder in folders)
