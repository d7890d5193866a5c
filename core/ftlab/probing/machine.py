"""Facts about this machine: CPU, memory, disk, GPUs, versions.

torch is imported only where a GPU may be, because it costs seconds and reserves memory on the
device; without one, everything is read from the system. The number of threads torch will use is
remembered, since only torch knows it.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
from pathlib import Path
from typing import Any

from ftlab import versions
from ftlab.facts import Gpu, Machine
from ftlab.planning import measured
from ftlab.probing import remember

BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16", "svebf16"})
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_THREAD_LIMIT")
DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")
EXTRA_PACKAGES = ("nvidia-ml-py", "huggingface-hub")


def machine_facts(runs_dir: str | os.PathLike[str], *, cache: bool = True) -> Machine:
    """What is true of this computer now.

    Args:
        runs_dir: where run directories will lie; need not exist.
        cache: allow the remembered number of torch threads.
    """
    cpu, flags = _cpu()
    total, free = memory()
    gpus, driver, problem = _gpus()
    return Machine(
        platform=platform.platform(),
        cpu=cpu,
        cpu_count=usable_cores(),
        threads=_threads(cpu, cache),
        cpu_bf16=bool(flags & BF16_FLAGS),
        memory_bytes=total,
        memory_free_bytes=free,
        disk_free_bytes=disk_free(Path(runs_dir)),
        driver=driver,
        cuda=versions.torch_cuda() or "",
        gpus=gpus,
        gpu_problem=problem,
        versions=_versions(),
        speeds=measured.read(),
    )


def usable_cores() -> int:
    """Logical cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def memory(root: Path = Path("/")) -> tuple[int, int]:
    """(all, free) bytes of main memory, within the limit of the container."""
    total = free = 0
    for line in _read(root / "proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            count = int(rest.split()[0]) * 1024
            total, free = (count, free) if name == "MemTotal" else (total, count)
    if not total and root == Path("/"):
        total = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit_file, used_file in (
        ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory.current"),
        (
            "sys/fs/cgroup/memory/memory.limit_in_bytes",
            "sys/fs/cgroup/memory/memory.usage_in_bytes",
        ),
    ):
        limit, used = _read(root / limit_file).strip(), _read(root / used_file).strip()
        if limit.isdigit() and used.isdigit() and int(limit) < total:
            total = int(limit)
            # What the page cache holds counts as used there, so this is on the safe side.
            free = min(free, max(0, total - int(used)))
    return total, free


def disk_free(folder: Path) -> int:
    """Free bytes for this user where `folder` lies or will lie."""
    place = folder.expanduser().absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


def _cpu(root: Path = Path("/")) -> tuple[str, set[str]]:
    """Model name and feature flags."""
    name, flags = platform.processor() or platform.machine(), set[str]()
    for line in _read(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            return name, set(value.split())
    return name, flags


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _versions() -> dict[str, str]:
    found = versions.installed((*versions.PACKAGES, *EXTRA_PACKAGES))
    own = {"python": versions.python(), "ftlab": versions.ours()}
    return own | {name: version for name, version in found.items() if version is not None}


def _threads(cpu: str, cache: bool) -> int:
    """torch's number of threads; asked once for each environment that decides it."""
    key = remember.key(
        "threads",
        cpu,
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        {name: os.environ.get(name) for name in THREAD_VARIABLES},
        versions.installed(("torch",)),
    )
    known = remember.load("threads", key) if cache else None
    if isinstance(known, int):
        return known
    try:
        import torch
    except ImportError:
        return usable_cores()
    count = int(torch.get_num_threads())
    remember.save("threads", key, count)
    return count


def gpu_may_exist() -> bool:
    """Whether it is worth asking torch for GPUs."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.strip() in ("", "-1"):
        return False
    return any(os.path.exists(file) for file in DEVICE_FILES)


def _gpus() -> tuple[tuple[Gpu, ...], str, str]:
    """GPUs as torch numbers them, the driver's version, and why there are none."""
    if not gpu_may_exist():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        hidden = f"CUDA_VISIBLE_DEVICES={visible!r} hides every GPU" if visible is not None else ""
        return (), _driver(), hidden
    import torch

    if not torch.cuda.is_available():
        return (), _driver(), _cuda_problem(torch)
    nvml = _Nvml()
    found = tuple(_gpu(torch, nvml, index) for index in range(torch.cuda.device_count()))
    return found, nvml.driver or _driver(), ""


def _gpu(torch: Any, nvml: _Nvml, index: int) -> Gpu:
    properties = torch.cuda.get_device_properties(index)
    uuid = str(getattr(properties, "uuid", "") or "")
    free, ecc = nvml.of(uuid)
    if free is None:
        free = int(torch.cuda.mem_get_info(index)[0])
    return Gpu(
        index=index,
        name=str(properties.name),
        capability=(int(properties.major), int(properties.minor)),
        total_bytes=int(properties.total_memory),
        free_bytes=free,
        multiprocessors=int(properties.multi_processor_count),
        ecc=ecc,
        uuid=uuid,
    )


def _cuda_problem(torch: Any) -> str:
    """Why torch sees no GPU although a device file is there."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()
    except Exception as error:
        return str(error).strip().splitlines()[0]
    return "torch sees no CUDA device"


def _driver() -> str:
    """The NVIDIA driver's version from the kernel module."""
    match = re.search(r"Kernel Module\D*([\d.]+)", _read(Path("/proc/driver/nvidia/version")))
    return match[1] if match else ""


class _Nvml:
    """Free memory and ECC from NVML, which needs no context on the device; quiet without it."""

    def __init__(self) -> None:
        self.library: Any = None
        self.driver = ""
        try:
            pynvml = importlib.import_module("pynvml")
            pynvml.nvmlInit()
            self.library = pynvml
            driver = pynvml.nvmlSystemGetDriverVersion()
            self.driver = driver.decode() if isinstance(driver, bytes) else str(driver)
        except Exception:  # a missing or failing NVML only costs detail
            self.library = None

    def of(self, uuid: str) -> tuple[int | None, bool | None]:
        """(free bytes, ECC on) of the GPU with that uuid; None where it cannot be told."""
        if self.library is None or not uuid:
            return None, None
        name = uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"
        try:
            handle = self.library.nvmlDeviceGetHandleByUUID(name.encode())
            free = int(self.library.nvmlDeviceGetMemoryInfo(handle).free)
        except Exception:
            return None, None
        try:
            return free, bool(self.library.nvmlDeviceGetEccMode(handle)[0])
        except Exception:  # consumer cards have none
            return free, None
