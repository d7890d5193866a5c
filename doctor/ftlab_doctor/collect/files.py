"""Small files of the system that say what the driver, the kernel and the container are."""

from __future__ import annotations

import glob
import os
import re
from typing import Any

from ftlab_doctor.collect.reading import names, put, text

READ = (
    "/proc/driver/nvidia/version", "/sys/module/nvidia/version", "/proc/mounts", "/etc/docker/daemon.json",
    "/etc/nvidia-container-runtime/config.toml", "/proc/sys/kernel/randomize_va_space", "/proc/version",
    "/etc/wsl.conf", "/sys/module/nvidia_drm/version", "/proc/sys/kernel/dmesg_restrict",
    "/etc/ld.so.preload", "/proc/sys/vm/overcommit_memory",
)  # fmt: skip
LOOK = (
    "/.dockerenv", "/run/.containerenv", "/.singularity.d", "/dev/dxg", "/usr/lib/wsl/lib/libcuda.so.1",
    "/proc/driver/nvidia", "/sys/firmware/efi", "/var/run/docker.sock", "/run/systemd/system",
    "/usr/include/stdlib.h", "/etc/resolv.conf", "/usr/local/cuda", "/usr/local/cuda/bin/nvcc", "/sys/module/nouveau",
    "/sys/module/nvidia", "/sys/module/nvidia_uvm", "/usr/bin/nvidia-container-runtime-hook",
)  # fmt: skip
LIST = ("/etc/cdi", "/var/run/cdi", "/dev/char", "/proc/driver/nvidia/gpus")
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-*"
WSL_CONFIG = "/mnt/c/Users/*/.wslconfig"
MODPROBE = ("/etc/modprobe.d/*.conf", "/run/modprobe.d/*.conf", "/lib/modprobe.d/*.conf")
BARRED = re.compile(r"^\s*(blacklist\s+nvidia|(?:alias|install)\s+nvidia\s+(?:off|\S*/(?:true|false)))\s*$", re.MULTILINE)  # fmt: skip


def collect(facts: dict[str, Any]) -> None:
    """Fill `files` (text, False if absent, True if only seen) and `listings`."""
    for path in READ:
        put(facts, "files", path, text(path))
    for path in LOOK:
        put(facts, "files", path, os.path.lexists(path))
    for folder in LIST:
        found = names(folder)
        if folder == "/dev/char" and found:
            found = [name for name in found if name.startswith(("195:", "234:", "235:", "236:"))][
                :64
            ]
        put(facts, "listings", folder, found)
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home:
        put(facts, "files", "$CUDA_HOME", os.path.isdir(home))
    put(facts, "files", "/proc/modules", _modules())
    put(facts, "files", "modprobe nvidia", _barred())
    _secure_boot(facts)
    _wsl_config(facts)
    for path in ("/etc/cdi/nvidia.yaml", "/var/run/cdi/nvidia.yaml"):
        content = text(path, 1 << 18)
        if isinstance(
            content, str
        ):  # of a long file only the names that say for which driver it was made
            found = sorted(set(re.findall(r"\blib(?:cuda|nvidia-ml)\.so\.[\d.]*\d", content)))
            content = "\n".join(found) or True
        put(facts, "files", path, content)


def _modules() -> str | bool:
    """The lines of /proc/modules that concern graphics."""
    whole = text("/proc/modules", 1 << 18)
    if not isinstance(whole, str):
        return whole
    keep = ("nvidia", "nouveau", "nova", "amdgpu", "vfio", "i915")
    return "".join(line + "\n" for line in whole.splitlines() if line.startswith(keep))


def _barred(patterns: tuple[str, ...] = MODPROBE, line: str = "/proc/cmdline") -> str | bool:
    """Settings that keep the module `nvidia` out: "file: line" of each; False without any."""
    found = []
    for path in sorted(path for pattern in patterns for path in glob.glob(pattern)):
        found += [f"{path}: {words.strip()}" for words in BARRED.findall(str(text(path)))]
    given = re.search(r"(?:^|\s)((?:modprobe|module|rd\.driver)[._-]?blacklist=\S*\bnvidia\b\S*)", str(text(line)))  # fmt: skip
    found += [f"{line}: {given[1]}"] if given else []
    return "\n".join(found) or False


def _secure_boot(facts: dict[str, Any]) -> None:
    """The last byte of the EFI variable: "1" on, "0" off; absent without EFI."""
    for path in glob.glob(SECURE_BOOT):
        try:
            with open(path, "rb") as file:
                put(facts, "files", "SecureBoot", str(file.read(8)[-1]))
            return
        except (OSError, IndexError):
            put(facts, "files", "SecureBoot", True)
            return
    put(facts, "files", "SecureBoot", False)


def _wsl_config(facts: dict[str, Any]) -> None:
    """.wslconfig as it really is: a BOM and CR are told, since they make Windows ignore it."""
    if not os.path.exists("/mnt/c/Users"):
        return
    for path in glob.glob(WSL_CONFIG)[:4]:
        try:
            with open(path, "rb") as file:
                raw = file.read(4096)
        except OSError:
            continue
        encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
        put(facts, "files", path, raw.decode(encoding, "replace"))
        marks = [encoding] + (["crlf"] if b"\r" in raw else [])
        put(facts, "listings", path, marks)
