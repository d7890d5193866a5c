"""The questions to NVML, answered by an imitation: what a driver does not tell stays None."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import nvml_child

UNKNOWN = (1 << 64) - 1


class Nvml:
    """A libnvidia-ml of one card, with the functions that are given by name."""

    def __init__(self, init: int = 0, **functions: Callable[..., int]) -> None:
        self.nvmlInit_v2 = lambda: init
        self.nvmlShutdown = lambda: 0
        self.nvmlErrorString = Words()
        self.nvmlDeviceGetCount_v2 = _put(1)
        self.nvmlDeviceGetHandleByIndex_v2 = lambda index, handle: 0
        for name, function in functions.items():
            setattr(self, name, function)


class Words:
    """A C function that returns text."""

    restype: object = None

    def __call__(self, code: int) -> bytes:
        return f"words of {code}".encode()


def _put(*values: int) -> Callable[..., int]:
    """A function that writes its last arguments."""

    def answer(*arguments: Any) -> int:
        for argument, value in zip(arguments[-len(values) :], values, strict=True):
            argument._obj.value = value
        return 0

    return answer


def _text(text: str) -> Callable[..., int]:
    def answer(*arguments: Any) -> int:
        arguments[-2].value = text.encode()
        return 0

    return answer


def _ask(monkeypatch: pytest.MonkeyPatch, library: Nvml) -> dict[str, Any]:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(nvml_child, "loaded", lambda part: "/lib/x")
    return nvml_child.main()


def test_a_driver_that_tells_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions of newer drivers are not there: nothing is made up."""
    found = _ask(monkeypatch, Nvml(nvmlDeviceGetName=_text("Old Card")))
    (card,) = found["gpus"]
    assert (found["rc"], found["driver"], card["name"], card["rc"]) == (0, None, "Old Card", 0)
    others = {value for name, value in card.items() if name not in ("index", "rc", "name")}
    assert others == {None}


def test_a_card_with_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    def memory(handle: Any, out: Any) -> int:
        out._obj.total, out._obj.free, out._obj.used = 100, 60, 40
        return 0

    def processes(handle: Any, count: Any, table: Any) -> int:
        count._obj.value = 2
        table[0].pid, table[0].used = 11, 5
        table[1].pid, table[1].used = 12, UNKNOWN
        return 0

    found = _ask(monkeypatch, Nvml(
        nvmlSystemGetDriverVersion=_text("535.1"), nvmlSystemGetCudaDriverVersion_v2=_put(12020), nvmlDeviceGetMemoryInfo=memory,
        nvmlDeviceGetCudaComputeCapability=_put(7, 5), nvmlDeviceGetComputeMode=_put(3), nvmlDeviceGetNvLinkState=_put(1),
        nvmlDeviceGetRemappedRows=_put(1, 2, 1, 0), nvmlDeviceGetComputeRunningProcesses_v3=processes,
    ))  # fmt: skip
    (card,) = found["gpus"]
    assert (found["driver"], found["cuda"]) == ("535.1", 12020)
    assert (card["total"], card["free"], card["cc"], card["compute_mode"], card["nvlink"]) == (100, 60, [7, 5], 3, 1)  # fmt: skip
    assert card["remapped"] == {"correctable": 1, "uncorrectable": 2, "pending": 1, "failed": 0}
    assert card["processes"] == [{"pid": 11, "used": 5}, {"pid": 12, "used": None}]


def test_slices_of_a_card_in_mig_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    (card,) = _ask(monkeypatch, Nvml(
        nvmlDeviceGetMigMode=_put(1, 1), nvmlDeviceGetMaxMigDeviceCount=_put(2), nvmlDeviceGetUUID=_text("MIG-1"),
        nvmlDeviceGetMigDeviceHandleByIndex=lambda handle, index, inner: 0 if index.value == 1 else 6,
    ))["gpus"]  # fmt: skip
    assert card["slices"] == ["MIG-1"]


def test_a_card_that_is_lost_and_a_library_that_does_not_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lost = Nvml(nvmlDeviceGetHandleByIndex_v2=lambda index, handle: 15)
    assert _ask(monkeypatch, lost)["gpus"] == [{"index": 0, "rc": 15}]
    assert _ask(monkeypatch, Nvml(init=18)) == {"rc": 18, "path": "/lib/x", "error": "words of 18"}


def test_it_runs_alone() -> None:
    script = Path(nvml_child.__file__)
    done = subprocess.run([sys.executable, "-I", "-S", script], capture_output=True, text=True, check=True)  # fmt: skip
    assert json.loads(done.stdout).keys() & {"missing", "rc"}
