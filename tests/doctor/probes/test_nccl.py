"""Two GPUs, or there is nobody to talk to."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from ftlab_doctor.probes import nccl


def _torch(devices: int) -> SimpleNamespace:
    """As much of torch as is asked before anything is computed."""
    cuda = SimpleNamespace(
        is_available=lambda: devices > 0, device_count=lambda: devices, get_arch_list=lambda: ["sm_75"]
    )  # fmt: skip
    return SimpleNamespace(__version__="2.4.1", cuda=cuda)


def test_without_what_it_asks_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", _torch(0))
    assert "0 GPU" in str(nccl.main()["skipped"])


def test_one_gpu_is_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", _torch(1))
    assert nccl.main() == {"skipped": "1 GPU"}
