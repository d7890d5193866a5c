"""Matrix products as the engine needs them: weights expanded, gradients summed into fp32."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ftlab.models.layers import Weight

# Products of 16-bit matrices that are never rounded to 16 bits; on the GPU, in torch 2.8 and later.
_ATEN: Any = torch.ops.aten  # type: ignore[attr-defined]  # missing in torch's own stubs
_WIDE_PRODUCT = hasattr(_ATEN.mm, "dtype")


def wide_product(left: Tensor, right: Tensor) -> Tensor:
    """left [M, T] times right [T, N], in fp32 (fp64 for fp64)."""
    if left.dtype in (torch.float32, torch.float64):
        return left @ right
    if _WIDE_PRODUCT and left.is_cuda:
        wide: Tensor = _ATEN.mm.dtype(left, right, torch.float32)
        return wide
    return (left @ right).float()


def expand(weight: Weight, out: Tensor) -> None:
    """Write a weight [N, K], dense or quantised, into `out` of another dtype or row stride."""
    if isinstance(weight, Tensor):
        out.copy_(weight)
    elif hasattr(weight, "expand_into"):
        weight.expand_into(out)
    else:
        out.copy_(weight.dequantise(out.dtype))


def dense(weight: Weight, dtype: torch.dtype) -> Tensor:
    """The weight [N, K] in `dtype`: itself where it is that already."""
    return weight.detach().to(dtype) if isinstance(weight, Tensor) else weight.dequantise(dtype)
