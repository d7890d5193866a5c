"""The GPUs of this machine as NVML tells them, read by a thread of its own every two seconds.

NVML is loaded when it is first needed and its absence is told in words. A viewer only reads.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

INTERVAL = 2.0  # seconds between two readings
# Bits of nvmlDeviceGetCurrentClocksEventReasons that slow a GPU down, and what they mean.
_THROTTLE = {
    0x04: "power cap",
    0x08: "hardware slow-down",
    0x20: "too hot",
    0x40: "too hot (hardware)",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True)
class GpuNow:
    """One GPU at one moment; None for what the driver does not tell."""

    index: int
    name: str
    uuid: str
    used_bytes: int | None
    total_bytes: int | None
    utilisation: int | None  # percent
    temperature: int | None  # degrees Celsius
    watts: float | None
    limit_watts: float | None
    throttle: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reading:
    """All GPUs, or why there are none."""

    gpus: tuple[GpuNow, ...] = ()
    reason: str = ""
    moment: float = 0.0


class GpuThread:
    """Reads the GPUs in the background; `latest` is always at hand and never blocks."""

    def __init__(self, read: Callable[[], Reading] | None = None) -> None:
        self.latest = Reading(reason="reading the GPUs ...")
        self._read = read or Nvml().read
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="ftui-gpus", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading; does not wait for a driver that hangs."""
        self._stop.set()

    def _loop(self) -> None:
        while not self._stop.is_set():
            self.latest = self._read()
            # A machine without GPUs gets none while it runs: look rarely.
            self._stop.wait(INTERVAL if self.latest.gpus else 60.0)


class Nvml:
    """The NVIDIA management library through nvidia-ml-py."""

    def __init__(self) -> None:
        self._library: Any = None

    def read(self) -> Reading:
        """All GPUs now. Raises nothing: a fault is the reading's reason."""
        try:
            library = self._load()
            count = library.nvmlDeviceGetCount()
            gpus = tuple(_one(library, index) for index in range(count))
        except Exception as error:  # a driver may fail in any way; none of them ends a viewer
            self._library = None
            return Reading(reason=_words(error), moment=time.time())
        reason = "" if gpus else "no NVIDIA GPU on this machine"
        return Reading(gpus, reason, time.time())

    def _load(self) -> Any:
        if self._library is None:
            library = importlib.import_module("pynvml")
            library.nvmlInit()
            self._library = library
        return self._library


def of_run(reading: Reading, wanted: Sequence[str]) -> tuple[GpuNow, ...]:
    """The GPUs with these uuids; all of them when none is known."""
    names = {name.removeprefix("GPU-") for name in wanted if name}
    found = tuple(gpu for gpu in reading.gpus if gpu.uuid.removeprefix("GPU-") in names)
    return found or reading.gpus


def _one(library: Any, index: int) -> GpuNow:
    handle = library.nvmlDeviceGetHandleByIndex(index)

    def ask(name: str, *arguments: Any) -> Any:
        try:
            return getattr(library, name)(handle, *arguments)
        except Exception:  # not supported by this card or driver
            return None

    memory, rates = ask("nvmlDeviceGetMemoryInfo"), ask("nvmlDeviceGetUtilizationRates")
    power, limit = ask("nvmlDeviceGetPowerUsage"), ask("nvmlDeviceGetEnforcedPowerLimit")
    reasons = ask("nvmlDeviceGetCurrentClocksEventReasons")
    if reasons is None:
        reasons = ask("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
    return GpuNow(
        index,
        _text(ask("nvmlDeviceGetName")),
        _text(ask("nvmlDeviceGetUUID")),
        getattr(memory, "used", None),
        getattr(memory, "total", None),
        getattr(rates, "gpu", None),
        ask("nvmlDeviceGetTemperature", 0),
        power / 1000 if power is not None else None,
        limit / 1000 if limit is not None else None,
        tuple(word for bit, word in _THROTTLE.items() if int(reasons) & bit),
    )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _words(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "nvidia-ml-py is not installed"
    return f"no GPU can be read here ({str(error) or type(error).__name__})"
