"""What is compiled at run time: a C compiler and Python.h for Triton, g++ for torch.compile, nvcc."""

from __future__ import annotations

import re

from ftlab_doctor import stack
from ftlab_doctor.finding import Finding, Fix, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.registry import check
from ftlab_doctor.versions import release


def install(host: Host, debian: str, fedora: str) -> Fix:
    """The command of this distribution's package manager."""
    ids = (
        f"{host.system.get('os', {}).get('ID', '')} {host.system.get('os', {}).get('ID_LIKE', '')}"
    )
    if "fedora" in ids or "rhel" in ids:
        return Fix(f"sudo dnf install -y {fedora}", "root")
    return Fix(f"sudo apt-get install -y {debian}", "root")


@check("build.cc", "Is there a C compiler for Triton's launchers?")
def compiler(host: Host) -> Finding:
    """$CC, gcc or clang; Triton compiles a stub for every kernel."""
    if not host.has("programs"):
        return unknown("nobody looked for one")
    said = host.env("CC")
    if said and not host.which("$CC"):
        return fail(
            f"CC={said} names no program: Triton cannot compile",
            observed=said,
            expected="a C compiler",
            blocks=("triton", "compile"),
            evidence=[("CC", said)],
            fix="unset CC",
        )
    found = host.which("$CC") or host.which("gcc") or host.which("clang") or host.which("cc")
    if found:
        return ok(found)
    gpu = stack.expected(host)
    return (fail if gpu else warn)("There is no C compiler: Triton cannot start a kernel", observed="no gcc, clang or $CC", expected="gcc",
                                   evidence=[("PATH", "no gcc, clang, cc")], blocks=("triton", "compile"), why="slim and runtime images leave it out",
                                   fix=install(host, "build-essential", "gcc gcc-c++"))  # fmt: skip


@check("build.headers", "Are Python.h and the C library's headers there?", ("build.cc",))
def headers(host: Host) -> Finding:
    """Triton's stub includes both."""
    if "header" not in host.python:
        return unknown("nobody looked")
    if not host.python["header"]:
        minor = ".".join(str(host.python.get("version", "3")).split(".")[:2])
        gpu = stack.expected(host)
        return (fail if gpu else warn)("Python.h is missing: Triton cannot compile its launcher", observed=f"no {host.python.get('include')}/Python.h",
                                       expected="Python.h", evidence=[(str(host.python.get("include")), "no Python.h")], blocks=("triton", "compile"),
                                       fix=install(host, f"python{minor}-dev", f"python{minor}-devel"))  # fmt: skip
    if host.exists("/usr/include/stdlib.h") is False and not host.python.get("conda"):
        return (fail if stack.expected(host) else warn)("The C library's headers are missing: gcc cannot compile", observed="no /usr/include/stdlib.h", expected="libc6-dev",
                                                        blocks=("triton", "compile"), fix=install(host, "libc6-dev", "glibc-devel"))  # fmt: skip
    return ok(str(host.python.get("include")))


@check("build.cxx", "Is there a C++ compiler for torch.compile on the CPU?", ("build.cc",))
def cxx(host: Host) -> Finding:
    """Only inductor's CPU code and building extensions need it."""
    if not host.has("programs"):
        return unknown("nobody looked for one")
    found = host.which("$CXX") or host.which("g++")
    return ok(found) if found else warn("There is no g++: torch.compile fails on CPU parts", observed="no g++", blocks=("compile",),
                                        fix=install(host, "g++", "gcc-c++"))  # fmt: skip


@check("build.nvcc", "Does nvcc, if there is one, fit torch?", ("torch.installed",))
def nvcc(host: Host) -> Finding:
    """Nothing of ours needs nvcc; building flash-attn or an extension does, with torch's own major version."""
    answer = host.command("nvcc")
    if answer is None or not host.which("nvcc"):
        return skip("no nvcc, and nothing of ours needs one")
    if answer.rc != 0:
        return warn(
            "nvcc does not run",
            observed=answer.text[:120],
            blocks=("build",),
            fix="export PATH=/usr/local/cuda/bin:$PATH",
        )
    match = re.search(r"release ([\d.]+)", answer.out)
    cuda = stack.torch_cuda(host)
    if not match or not cuda:
        return ok(match[1] if match else "runs")
    if release(match[1])[:1] == release(cuda)[:1] or (
        not host.package("flash-attn") and not host.env("CUDA_HOME")
    ):
        return ok(f"{match[1]}; torch has {cuda}")
    return warn(f"nvcc is CUDA {match[1]}, torch was built with {cuda}: extensions cannot be built here", observed=match[1], expected=cuda,
                evidence=[("nvcc --version", match[0])], blocks=("build",), fix=f"export CUDA_HOME=/usr/local/cuda-{cuda}")  # fmt: skip


@check("build.cuda-home", "Does CUDA_HOME name a folder that is there?")
def cuda_home(host: Host) -> Finding:
    """A stale CUDA_HOME breaks every build."""
    value = host.env("CUDA_HOME") or host.env("CUDA_PATH")
    if not value:
        return ok("not set")
    if host.exists("$CUDA_HOME") is False:
        return warn(
            f"CUDA_HOME names {value}, which is not there",
            observed=value,
            expected="an existing folder",
            blocks=("build",),
            evidence=[("CUDA_HOME", value)],
            fix="unset CUDA_HOME CUDA_PATH",
        )
    return ok(value)


# The newest gcc that each nvcc compiles with. Source: CUDA installation guide, host compiler table.
NEWEST_GCC = ((13, 0, 15), (12, 8, 14), (12, 4, 13), (12, 0, 12), (11, 5, 11), (11, 1, 10))


@check("build.gcc", "Does nvcc take the C++ compiler that is here?", ("build.nvcc",))
def gcc(host: Host) -> Finding:
    """Asked where something is built: flash-attn, deepspeed, or a CUDA_HOME of one's own."""
    answer, compiler = host.command("nvcc"), host.command("cc")
    release_ = re.search(r"release (\d+)\.(\d+)", answer.out if answer else "")
    version = release(compiler.out)[:1] if compiler and compiler.rc == 0 else ()
    builds = host.package("flash-attn") or host.package("deepspeed") or host.env("CUDA_HOME")
    if not release_ or not version or not builds or host.env("NVCC_PREPEND_FLAGS"):
        return skip("nothing is built with nvcc here")
    if "clang" in str(host.which("$CC") or host.which("gcc") or "clang"):
        return skip("not gcc")
    cuda = (int(release_[1]), int(release_[2]))
    most = next((gcc for major, minor, gcc in NEWEST_GCC if cuda >= (major, minor)), 0)
    if version[0] <= most:
        return ok(f"gcc {version[0]} for CUDA {cuda[0]}.{cuda[1]}")
    return warn(
        f"nvcc {cuda[0]}.{cuda[1]} refuses gcc {version[0]}: extensions cannot be built here", observed=f"gcc {version[0]}",
        expected=f"gcc {most} or older", evidence=[("gcc -dumpversion", str(version[0])), ("nvcc --version", release_[0])],
        blocks=("build",), fix=f"export NVCC_PREPEND_FLAGS='-ccbin g++-{most}'  # after: sudo apt install g++-{most}",
    )  # fmt: skip


@check("build.deepspeed", "Can deepspeed, if it is installed, be imported?", ("build.cuda-home",))
def deepspeed(host: Host) -> Finding:
    """It asks nvcc for its version when it is imported, and accelerate and trl import it where it is."""
    if not host.package("deepspeed"):
        return skip("deepspeed is not installed")
    if not host.has("programs"):
        return unknown("nobody looked for nvcc")
    home = host.env("CUDA_HOME") or host.env("CUDA_PATH") or ""
    there = host.which("nvcc") or host.exists("/usr/local/cuda/bin/nvcc")
    if there and (not home or host.exists("$CUDA_HOME") is not False):
        return ok(str(host.which("nvcc") or "/usr/local/cuda/bin/nvcc"))
    if not stack.expected(host):
        return ok("there is no GPU to compile for")
    return fail(
        f"deepspeed {host.version('deepspeed')} is installed and there is no nvcc: Trainers of trl and transformers stop when they import it",
        observed=f"no nvcc; CUDA_HOME={home or 'not set'}", expected="an nvcc, or no deepspeed", blocks=("trl",),
        evidence=[("deepspeed", str(host.version("deepspeed"))), ("nvcc", "not found")], why="CUDA_HOME does not exist, unable to compile CUDA op(s)",
        fix=["pip uninstall -y deepspeed  # one GPU does not need it", "conda install -c nvidia cuda-nvcc"],
    )  # fmt: skip
