"""GPUs through NVML: what a card tells, what it does not, and no driver at all."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from ftlab_tui.reading import gpus
from ftlab_tui.reading.gpus import GpuThread, Nvml, Reading, of_run


class Library:
    """Two cards; the second tells nothing but its name."""

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def __getattr__(self, name: str):  # type: ignore[no-untyped-def]
        told = {
            "nvmlDeviceGetName": "NVIDIA H100", "nvmlDeviceGetUUID": b"GPU-aa",
            "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=8, total=16),
            "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=97),
            "nvmlDeviceGetTemperature": 64, "nvmlDeviceGetPowerUsage": 612_000,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000,
            "nvmlDeviceGetCurrentClocksEventReasons": 0x24,
        }  # fmt: skip

        def ask(handle: int, *rest: int) -> object:
            if handle == 1 and name != "nvmlDeviceGetName":
                raise RuntimeError("not supported")
            return told[name]

        return ask


def test_two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.importlib, "import_module", lambda name: Library())
    reading = Nvml().read()
    first, second = reading.gpus
    assert (first.used_bytes, first.utilisation, first.watts) == (8, 97, 612.0)
    assert first.throttle == ("power cap", "too hot")
    assert (second.name, second.watts, second.throttle) == ("NVIDIA H100", None, ())
    assert of_run(reading, ["GPU-aa"]) == (first,)
    assert of_run(reading, ["aa"]) == (first,)
    assert of_run(reading, ["unknown"]) == reading.gpus


def test_no_library_and_no_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(gpus.importlib, "import_module", missing)
    assert "not installed" in Nvml().read().reason
    broken = SimpleNamespace(nvmlInit=lambda: 1 / 0)
    monkeypatch.setattr(gpus.importlib, "import_module", lambda name: broken)
    assert "no GPU can be read here" in Nvml().read().reason


def test_the_thread_reads_and_stops() -> None:
    read = threading.Event()

    def once() -> Reading:
        read.set()
        return Reading(reason="none")

    thread = GpuThread(once)
    thread.start()
    assert read.wait(5)
    thread.stop()
    thread._thread.join(5)
    assert not thread._thread.is_alive()
    assert thread.latest.reason == "none"
    assert time.time() > 0
