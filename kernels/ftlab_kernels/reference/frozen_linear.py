"""Linear with a frozen, quantised weight that is expanded again in the backward pass.

    forward  y = x W^T            W = dequantise(packed), thrown away after use
    backward dx = dy W            W expanded once more; no dW

So nothing of the size of W is kept between the passes.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor


class FrozenWeight(Protocol):
    """A weight that is never trained and is stored in some packed form."""

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K] in `dtype`."""
        ...


def frozen_linear(x: Tensor, weight: FrozenWeight) -> Tensor:
    """x [T, K] times the transposed weight [N, K]: [T, N] in x's dtype."""
    result: Tensor = _FrozenLinear.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: FrozenWeight) -> Tensor:
        ctx.weight = weight
        return x @ weight.dequantise(x.dtype).t()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None
        return grad @ ctx.weight.dequantise(grad.dtype), None
