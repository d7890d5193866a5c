"""A product in each dtype: right as it is, and a wrong one is told with its dtype and device."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from ftlab_doctor.probes import matmul


class Tensor:
    """As much of a tensor as the probe asks for; `off` is added to every product of `dtype`."""

    off: tuple[str, float] = ("", 0.0)

    def __init__(self, data: NDArray[np.float64], dtype: str = "float64") -> None:
        self.data, self.dtype = data, dtype

    def to(self, device: str, dtype: str) -> Tensor:
        return Tensor(self.data, dtype)

    def double(self) -> Tensor:
        return Tensor(self.data)

    def cpu(self) -> Tensor:
        return self

    def abs(self) -> Tensor:
        return Tensor(np.abs(self.data))

    def max(self) -> SimpleNamespace:
        return SimpleNamespace(item=lambda: float(self.data.max()))

    def __matmul__(self, other: Tensor) -> Tensor:
        dtype, off = self.off
        return Tensor(self.data @ other.data + (off if dtype == self.dtype else 0.0))

    def __sub__(self, other: Tensor) -> Tensor:
        return Tensor(self.data - other.data)


def _torch(devices: int) -> SimpleNamespace:
    return SimpleNamespace(
        cuda=SimpleNamespace(device_count=lambda: devices), manual_seed=lambda seed: None,
        randn=lambda *shape, dtype: Tensor(np.ones(shape)), **{name: name for name in (*matmul.LIMITS, "float64")},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("off", "devices", "answer"),
    [
        (("", 0.0), 0, {"said": "float32, float16, bfloat16 on cpu"}),
        (("", 0.0), 2, {"said": "float32, float16, bfloat16 on cuda:0, cuda:1"}),
        (("bfloat16", 0.1), 1, {"said": "float32, float16, bfloat16 on cuda:0"}),
        (("bfloat16", 3.0), 1, {"wrong": "bfloat16 on cuda:0 is off by 3"}),
        (("float16", float("nan")), 1, {"wrong": "float16 on cuda:0 is off by nan"}),
    ],
)
def test_every_dtype_on_every_device(
    monkeypatch: pytest.MonkeyPatch,
    off: tuple[str, float],
    devices: int,
    answer: dict[str, str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch", _torch(devices))
    monkeypatch.setattr(Tensor, "off", off)
    assert matmul.main() == answer
