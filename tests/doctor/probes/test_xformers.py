"""xformers is tried where it is installed, on a GPU."""

from __future__ import annotations

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from ftlab_doctor.probes import xformers


def _torch(devices: int) -> SimpleNamespace:
    """As much of torch as is asked before anything is computed."""
    cuda = SimpleNamespace(
        is_available=lambda: devices > 0, device_count=lambda: devices, get_arch_list=lambda: ["sm_75"]
    )  # fmt: skip
    return SimpleNamespace(__version__="2.4.1", cuda=cuda)


def test_where_it_is_not_installed_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert xformers.main() == {"skipped": "xformers is not installed"}


def test_without_a_gpu_it_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "torch", _torch(0))
    assert "no GPU" in str(xformers.main()["skipped"])
