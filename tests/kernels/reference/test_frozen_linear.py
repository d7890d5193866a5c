"""frozen_linear: right, without a weight gradient, and keeping no dense weight."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ftlab_kernels.reference.frozen_linear import frozen_linear


@dataclass
class Counted:
    """A dense weight that counts how often it is asked for."""

    weight: Tensor
    dtypes: list[torch.dtype] = field(default_factory=list)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        self.dtypes.append(dtype)
        return self.weight.to(dtype)


def test_product_and_gradient() -> None:
    frozen = Counted(torch.randn(7, 5, dtype=torch.float64))
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    y = frozen_linear(x, frozen)
    torch.testing.assert_close(y, x @ frozen.weight.t())
    upstream = torch.randn_like(y)
    (grad,) = torch.autograd.grad(y, x, upstream)
    torch.testing.assert_close(grad, upstream @ frozen.weight)
    assert frozen.dtypes == [torch.float64, torch.float64]


def test_nothing_is_saved_between_the_passes() -> None:
    frozen = Counted(torch.randn(7, 5))
    x = torch.randn(3, 5, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        frozen_linear(x, frozen)
    assert saved == []


def test_compute_dtype_is_that_of_x() -> None:
    frozen = Counted(torch.randn(7, 5))
    assert frozen_linear(torch.randn(3, 5).to(torch.bfloat16), frozen).dtype == torch.bfloat16
    assert frozen.dtypes == [torch.bfloat16]
