"""A torch that sees so many GPUs, in the place of the real one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest


@pytest.fixture
def torch_sees(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`torch_sees(2)`: as much of torch as is asked before anything is computed."""

    def put(devices: int) -> None:
        cuda = SimpleNamespace(
            is_available=lambda: devices > 0, device_count=lambda: devices,
            get_arch_list=lambda: ["sm_75"],
        )  # fmt: skip
        made = SimpleNamespace(__version__="2.4.1", cuda=cuda)
        monkeypatch.setitem(sys.modules, "torch", made)

    return put
