"""Ask the driver's management library, by ctypes, in a process of its own; prints JSON.

Runs alone (`python -I -S nvml_child.py`): it imports nothing but the standard library.
"""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

SUCCESS = 0


class Memory(ctypes.Structure):
    """nvmlMemory_t."""

    _fields_ = [(name, ctypes.c_ulonglong) for name in ("total", "free", "used")]


class Pci(ctypes.Structure):
    """nvmlPciInfo_t."""

    _fields_ = [
        ("legacy", ctypes.c_char * 16), ("domain", ctypes.c_uint), ("bus", ctypes.c_uint),
        ("device", ctypes.c_uint), ("id", ctypes.c_uint), ("subsystem", ctypes.c_uint),
        ("slot", ctypes.c_char * 32),
    ]  # fmt: skip


class Ask:
    """One library, asked in the few shapes its functions have; None stands for "not told"."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def rc(self, name: str, *arguments: object) -> int:
        """The return code; -1 if this driver has no such function."""
        try:
            return int(getattr(self.library, name)(*arguments))
        except AttributeError:
            return -1

    def number(self, name: str, *arguments: object, kind: Any = ctypes.c_uint) -> int | None:
        """A function whose last argument is a pointer to one number."""
        value = kind()
        return value.value if self.rc(name, *arguments, ctypes.byref(value)) == SUCCESS else None

    def pair(self, name: str, device: object) -> list[int] | None:
        """A function with two numbers at its end."""
        a, b = ctypes.c_uint(), ctypes.c_uint()
        rc = self.rc(name, device, ctypes.byref(a), ctypes.byref(b))
        return [a.value, b.value] if rc == SUCCESS else None

    def text(self, name: str, *arguments: object, size: int = 96) -> str | None:
        """A function that fills a buffer."""
        buffer = ctypes.create_string_buffer(size)
        rc = self.rc(name, *arguments, buffer, ctypes.c_uint(size))
        return buffer.value.decode("utf-8", "replace") if rc == SUCCESS else None


def device(ask: Ask, index: int) -> dict[str, Any]:
    """Everything about one card."""
    handle = ctypes.c_void_p()
    rc = ask.rc("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(handle))
    if rc != SUCCESS:
        return {"index": index, "rc": rc}
    memory, pci = Memory(), Pci()
    card: dict[str, Any] = {"index": index, "rc": 0}
    card["name"] = ask.text("nvmlDeviceGetName", handle)
    card["uuid"] = ask.text("nvmlDeviceGetUUID", handle)
    if ask.rc("nvmlDeviceGetPciInfo_v3", handle, ctypes.byref(pci)) == SUCCESS:
        card["slot"] = pci.slot.decode().lower()
    if ask.rc("nvmlDeviceGetMemoryInfo", handle, ctypes.byref(memory)) == SUCCESS:
        card |= {"total": memory.total, "free": memory.free, "used": memory.used}
    card["cc"] = ask.pair("nvmlDeviceGetCudaComputeCapability", handle)
    card["mig"] = ask.pair("nvmlDeviceGetMigMode", handle)
    card["ecc"] = ask.pair("nvmlDeviceGetEccMode", handle)
    card["compute_mode"] = ask.number("nvmlDeviceGetComputeMode", handle)
    card["persistence"] = ask.number("nvmlDeviceGetPersistenceMode", handle)
    card["temperature"] = ask.number("nvmlDeviceGetTemperature", handle, ctypes.c_int(0))
    card["throttle"] = ask.number(
        "nvmlDeviceGetCurrentClocksThrottleReasons", handle, kind=ctypes.c_ulonglong
    )
    card["ecc_uncorrected"] = ask.number(
        "nvmlDeviceGetTotalEccErrors",
        handle,
        ctypes.c_int(1),
        ctypes.c_int(0),
        kind=ctypes.c_ulonglong,
    )
    card["retired_pending"] = ask.number("nvmlDeviceGetRetiredPagesPendingStatus", handle)
    card["remapped"] = remapped(ask, handle)
    card["nvlink"] = ask.number("nvmlDeviceGetNvLinkState", handle, ctypes.c_uint(0))
    card["processes"] = processes(ask, handle)
    if (card["mig"] or [0])[0] == 1:
        card["slices"] = slices(ask, handle)
    return card


def remapped(ask: Ask, handle: object) -> dict[str, int] | None:
    """Rows of memory that were, or wait to be, replaced."""
    values = [ctypes.c_uint() for _ in range(4)]
    if ask.rc("nvmlDeviceGetRemappedRows", handle, *map(ctypes.byref, values)) != SUCCESS:
        return None
    names = ("correctable", "uncorrectable", "pending", "failed")
    return {name: value.value for name, value in zip(names, values)}  # noqa: B905


def processes(ask: Ask, handle: object) -> list[dict[str, int | None]] | None:
    """Who computes on the card: pid and bytes."""

    class Process(ctypes.Structure):
        _fields_ = [
            ("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong), ("gpu", ctypes.c_uint), ("ci", ctypes.c_uint),
        ]  # fmt: skip

    count = ctypes.c_uint(64)
    table = (Process * 64)()
    for version in ("_v3", "_v2"):
        name = "nvmlDeviceGetComputeRunningProcesses" + version
        if ask.rc(name, handle, ctypes.byref(count), table) == SUCCESS:
            unknown = (1 << 64) - 1
            return [
                {"pid": p.pid, "used": None if p.used == unknown else p.used}
                for p in table[: count.value]
            ]
    return None


def slices(ask: Ask, handle: object) -> list[str]:
    """UUIDs of the MIG slices of a card."""
    found = []
    for index in range(ask.number("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
        inner = ctypes.c_void_p()
        rc = ask.rc(
            "nvmlDeviceGetMigDeviceHandleByIndex", handle, ctypes.c_uint(index), ctypes.byref(inner)
        )
        if rc == SUCCESS and (uuid := ask.text("nvmlDeviceGetUUID", inner)):
            found.append(uuid)
    return found


def main() -> dict[str, Any]:
    """All that NVML tells; `rc` is that of nvmlInit, `missing` the loader's words."""
    try:
        ask = Ask(ctypes.CDLL("libnvidia-ml.so.1"))
    except OSError as error:
        return {"missing": str(error)}
    rc = ask.rc("nvmlInit_v2")
    ask.library.nvmlErrorString.restype = ctypes.c_char_p
    facts: dict[str, Any] = {"rc": rc, "path": loaded("libnvidia-ml.so")}
    if rc != SUCCESS:
        facts["error"] = ask.library.nvmlErrorString(rc).decode()
        return facts
    facts["driver"] = ask.text("nvmlSystemGetDriverVersion")
    facts["cuda"] = ask.number("nvmlSystemGetCudaDriverVersion_v2", kind=ctypes.c_int)
    facts["gpus"] = [device(ask, i) for i in range(ask.number("nvmlDeviceGetCount_v2") or 0)]
    ask.rc("nvmlShutdown")
    return facts


def loaded(part: str) -> str:
    """The file that the loader took."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return next((line.split(maxsplit=5)[5].strip() for line in maps if part in line), "")


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
