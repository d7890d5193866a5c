"""The questions to libcuda, answered by an imitation; and the real child where there is no libcuda."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftlab_doctor.collect import cuda_child


def _cuda(init: int = 0, get: int = 0) -> SimpleNamespace:
    """A libcuda with one card; `init` is what cuInit returns, `get` what cuDeviceGet does."""

    def put(value: int, code: int = 0) -> Callable[..., int]:
        def answer(pointer: Any, *_: object) -> int:
            pointer._obj.value = value
            return code

        return answer

    def name(buffer: Any, *_: object) -> int:
        buffer.value = b"Imitated T4"
        return 0

    def attribute(value: Any, number: int, handle: object) -> int:
        value._obj.value = {cuda_child.MAJOR: 7, cuda_child.MINOR: 5}[number]
        return 0

    return SimpleNamespace(
        cuDriverGetVersion=put(12040), cuInit=lambda flags: init, cuDeviceGetCount=put(1), cuDeviceGet=put(0, get),
        cuDeviceGetName=name, cuDeviceGetAttribute=attribute, cuDeviceTotalMem_v2=put(16 << 30),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("library", "facts"),
    [
        (_cuda(), {"path": "", "version": 12040, "init": 0, "devices": [{"index": 0, "rc": 0, "name": "Imitated T4", "cc": [7, 5], "total": 16 << 30}]}),
        (_cuda(init=802), {"path": "", "version": 12040, "init": 802}),
        (_cuda(get=101), {"path": "", "version": 12040, "init": 0, "devices": [{"index": 0, "rc": 101}]}),
    ],
)  # fmt: skip
def test_what_it_answers(
    monkeypatch: pytest.MonkeyPatch, library: SimpleNamespace, facts: dict[str, Any]
) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(cuda_child, "loaded", lambda part: "")
    assert cuda_child.main() == facts


def test_a_library_that_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", nowhere)
    assert cuda_child.main() == {"missing": "libcuda.so.1: cannot open shared object file"}


def test_it_runs_alone() -> None:
    """Isolated and without site-packages, as the doctor starts it."""
    script = Path(cuda_child.__file__)
    done = subprocess.run([sys.executable, "-I", "-S", script], capture_output=True, text=True, check=True)  # fmt: skip
    assert json.loads(done.stdout).keys() & {"missing", "init"}


def test_the_file_that_was_loaded() -> None:
    assert "libc" in cuda_child.loaded("libc")
    assert cuda_child.loaded("no-such-library") == ""
