"""Facts of the machine, read from files that stand in for the system's."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest

from ftlab.facts import Gpu, Machine, from_json, to_json
from ftlab.probing import machine


def write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_this_machine(tmp_path: Path) -> None:
    facts = machine.machine_facts(tmp_path / "not" / "there")
    assert facts.cpu_count >= 1
    assert facts.threads >= 1
    assert 0 < facts.memory_free_bytes <= facts.memory_bytes
    assert facts.disk_free_bytes > 0
    assert facts.versions["torch"]
    assert facts.versions["ftlab"]
    assert from_json(Machine, to_json(facts)) == facts
    assert machine.machine_facts(tmp_path).threads == facts.threads


def test_memory_is_what_the_container_allows(tmp_path: Path) -> None:
    write(tmp_path, "proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 800 kB\n")
    assert machine.memory(tmp_path) == (1024_000, 819_200)
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    write(tmp_path, "sys/fs/cgroup/memory.current", "100\n")
    assert machine.memory(tmp_path) == (1024_000, 819_200)
    write(tmp_path, "sys/fs/cgroup/memory.max", "500000\n")
    assert machine.memory(tmp_path) == (500_000, 499_900)
    write(tmp_path, "sys/fs/cgroup/memory.current", "600000\n")
    assert machine.memory(tmp_path) == (500_000, 0)


@pytest.mark.parametrize(
    ("flags", "native"),
    [("avx2 avx512f", False), ("avx2 avx512_bf16", True), ("amx_tile amx_bf16", True)],
)
def test_cpu(tmp_path: Path, flags: str, native: bool) -> None:
    write(tmp_path, "proc/cpuinfo", f"processor : 0\nmodel name : Some CPU\nflags : {flags}\n")
    name, found = machine._cpu(tmp_path)
    assert name == "Some CPU"
    assert bool(found & machine.BF16_FLAGS) is native


def test_cpu_without_proc(tmp_path: Path) -> None:
    name, flags = machine._cpu(tmp_path)
    assert name
    assert flags == set()


def test_disk_free_of_a_folder_to_come(tmp_path: Path) -> None:
    assert machine.disk_free(tmp_path / "a" / "b") == machine.disk_free(tmp_path)


def test_threads_are_remembered_for_their_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    first = machine._threads("cpu", cache=True)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert machine._threads("cpu", cache=True) == first
    assert machine._threads("another cpu", cache=True) == machine.usable_cores()


def fake_torch(
    *, available: bool = True, cuda: str | None = "12.1", error: str = "", uuid: str = "ab-cd"
) -> Any:
    """A torch with one T4, or with the reason why there is none."""

    def init() -> None:
        if error:
            raise RuntimeError(error)

    card = types.SimpleNamespace(
        name="Tesla T4",
        major=7,
        minor=5,
        total_memory=16 << 30,
        multi_processor_count=40,
        uuid=uuid,
    )
    return types.SimpleNamespace(
        __version__="2.4.1",
        version=types.SimpleNamespace(cuda=cuda),
        cuda=types.SimpleNamespace(
            is_available=lambda: available,
            device_count=lambda: 1,
            get_device_properties=lambda index: card,
            mem_get_info=lambda index: (10 << 30, 16 << 30),
            init=init,
        ),
    )


@pytest.fixture
def with_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    device = tmp_path / "nvidia0"
    device.touch()
    monkeypatch.setattr(machine, "DEVICE_FILES", (str(device),))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "pynvml", None)


@pytest.mark.usefixtures("with_gpu")
def test_a_gpu_without_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    gpus, _, problem = machine._gpus()
    assert gpus == (Gpu(0, "Tesla T4", (7, 5), 16 << 30, 10 << 30, 40, None, "ab-cd"),)
    assert problem == ""


@pytest.mark.usefixtures("with_gpu")
def test_a_gpu_with_nvml(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_ecc(handle: Any) -> Any:
        raise RuntimeError("Not Supported")

    nvml = types.SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlSystemGetDriverVersion=lambda: b"535.1",
        nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetMemoryInfo=lambda handle: types.SimpleNamespace(free=12 << 30),
        nvmlDeviceGetEccMode=lambda handle: [1, 1],
    )
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    gpus, driver, _ = machine._gpus()
    assert (gpus[0].free_bytes, gpus[0].ecc, driver) == (12 << 30, True, "535.1")
    nvml.nvmlDeviceGetEccMode = no_ecc
    assert machine._gpus()[0][0].ecc is None
    nvml.nvmlDeviceGetMemoryInfo = no_ecc
    assert machine._gpus()[0][0].free_bytes == 10 << 30


@pytest.mark.usefixtures("with_gpu")
@pytest.mark.parametrize(
    ("torch", "words"),
    [
        (fake_torch(available=False, cuda=None), "built without CUDA"),
        (fake_torch(available=False, error="driver too old\nmore"), "driver too old"),
        (fake_torch(available=False), "torch sees no CUDA device"),
    ],
)
def test_why_torch_sees_none(monkeypatch: pytest.MonkeyPatch, torch: Any, words: str) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    gpus, _, problem = machine._gpus()
    assert gpus == ()
    assert words in problem


@pytest.mark.usefixtures("with_gpu")
def test_hidden_gpus_are_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert machine._gpus()[0] == ()
    assert "hides every GPU" in machine._gpus()[2]


def test_no_device_file_no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "DEVICE_FILES", ("/dev/none",))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert machine._gpus() == ((), machine._driver(), "")
