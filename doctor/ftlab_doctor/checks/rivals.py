"""Packages that own the same files: the last one installed wins, and removing one takes the other's."""

from __future__ import annotations

from ftlab_doctor.finding import Finding, fail, ok, skip, warn
from ftlab_doctor.host import Host
from ftlab_doctor.markers import normal, parse
from ftlab_doctor.registry import check
from ftlab_doctor.versions import satisfies

# Packages that own the same files: (names, the folder or file they share, does it break training).
SHARED = (
    ("triton pytorch-triton pytorch-triton-rocm triton-windows pytorch-triton-xpu", "triton", True),
    ("nvidia-cudnn-cu11 nvidia-cudnn-cu12 nvidia-cudnn-cu13", "nvidia/cudnn", True),
    ("nvidia-nccl-cu11 nvidia-nccl-cu12 nvidia-nccl-cu13", "nvidia/nccl", True),
    ("nvidia-cusparselt-cu12 nvidia-cusparselt-cu13", "nvidia/cusparselt", True),
    ("nvidia-nvshmem-cu12 nvidia-nvshmem-cu13", "nvidia/nvshmem", True),
    ("nvidia-cuda-runtime-cu11 nvidia-cuda-runtime-cu12", "nvidia/cuda_runtime", True),
    ("nvidia-cublas-cu11 nvidia-cublas-cu12", "nvidia/cublas", True),
    ("bitsandbytes bitsandbytes-rocm bitsandbytes-windows", "bitsandbytes", True),
    ("pynvml nvidia-ml-py nvidia-ml-py3", "pynvml.py", False),
)
ALONE = {"pynvml": ">=12"}  # releases that no longer own the file


def rivals(host: Host) -> list[tuple[list[str], str, bool]]:
    """Installed packages that overwrite each other: names in the order of SHARED."""
    found = []
    for names, what, grave in SHARED:
        there = [n for n in names.split() if _owns(host, n)]
        if len(there) > 1:
            found.append((there, what, grave))
    return found


def _owns(host: Host, name: str) -> bool:
    package = host.package(name)
    if not package or package.get("inactive"):
        return False
    return not (name in ALONE and satisfies(str(package["version"]), ALONE[name]))


@check("env.rivals", "Do no two packages own the same files?")
def rivalry(host: Host) -> Finding:
    """The one that was installed last wins, and removing one takes the files of the other."""
    if not host.packages:
        return skip("no packages are listed")
    found = sorted(rivals(host), key=lambda item: not item[2])
    if not found:
        return ok("no two")
    there, what, grave = found[0]
    needed = _needed(host, there)
    others = [name for name in there if name != needed]
    intact = not (host.package(needed) or {}).get("damaged")
    say = fail if grave and not intact else warn
    version = (host.package(needed) or {}).get("version", "")
    return say(
        f"{' and '.join(there)} own the same files ({what})" + ("" if intact else f": those of {needed} are overwritten"),
        observed=", ".join(f"{n} {host.version(n)}" for n in there), expected=f"{needed} alone",
        evidence=[(what, f"{n} {host.version(n)}") for n in there], blocks=("train",) if say is fail else (),
        why="the one installed last wins; removing one takes files of the other",
        fix=f"pip uninstall -y {' '.join(others)} && pip install --force-reinstall --no-deps {needed}=={version}",
    )  # fmt: skip


def _needed(host: Host, names: list[str]) -> str:
    """The one that another package asks for, torch before all."""
    for package in sorted(host.packages, key=lambda p: normal(p["name"]) != "torch"):
        for line in package.get("requires", []):
            need = parse(line)
            if need and need.name in names:
                return need.name
    return names[-1] if names[0].startswith("pynvml") else names[0]
