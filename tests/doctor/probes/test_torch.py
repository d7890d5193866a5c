"""What torch sees, told in one line."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from ftlab_doctor.probes import torch


def _torch(devices: int) -> SimpleNamespace:
    """As much of torch as is asked before anything is computed."""
    cuda = SimpleNamespace(
        is_available=lambda: devices > 0, device_count=lambda: devices, get_arch_list=lambda: ["sm_75"]
    )  # fmt: skip
    return SimpleNamespace(__version__="2.4.1", cuda=cuda)


@pytest.mark.parametrize(
    ("devices", "said"), [(0, "torch 2.4.1, no GPU"), (2, "torch 2.4.1, 2 GPU")]
)
def test_what_is_seen(monkeypatch: pytest.MonkeyPatch, devices: int, said: str) -> None:
    monkeypatch.setitem(sys.modules, "torch", _torch(devices))
    assert torch.main() == {
        "said": said, "cuda": devices > 0, "devices": devices, "arch": ["sm_75"],
    }  # fmt: skip
