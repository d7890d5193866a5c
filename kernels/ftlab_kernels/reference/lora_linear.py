"""LoRA and DoRA linear reference, as PEFT defines them.

    LoRA:  y = x W^T + b + s (d(x) A^T) B^T
    DoRA:  y = x W^T + b + (c - 1) (d(x) W^T) + c s (d(x) A^T) B^T,
           c = m / ||W + s B A||_2 per output feature, the norm held constant in the backward pass

d is dropout, s = alpha / r (alpha / sqrt r with rsLoRA), A [r, K], B [N, r], m [N].
Hu et al. 2021, "LoRA"; Kalajdzievski 2023, "rsLoRA"; Liu et al. 2024, "DoRA".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab_kernels.reference.frozen_linear import FrozenWeight, frozen_linear

Weight = Tensor | FrozenWeight


def lora_linear(
    x: Tensor,
    weight: Weight,
    bias: Tensor | None,
    lora_a: Tensor,
    lora_b: Tensor,
    *,
    scaling: float,
    dropped: Tensor | None = None,
    magnitude: Tensor | None = None,
) -> Tensor:
    """A linear layer with a low-rank adapter beside it.

    Args:
        x: [T, K].
        weight: [N, K] in x's dtype, or a frozen quantised weight.
        bias: [N] or None.
        lora_a, lora_b: [r, K] and [N, r], any dtype; cast to x's.
        scaling: s.
        dropped: d(x) [T, K] where there is dropout, None where d(x) = x.
        magnitude: m [N] for DoRA, None for LoRA.

    Returns:
        [T, N] in x's dtype.
    """
    base = linear(x, weight)
    low_rank = (x if dropped is None else dropped) @ lora_a.to(x.dtype).t()
    up = lora_b.to(x.dtype).t()
    if magnitude is None:
        # In place: the product that made `base` does not keep it for its backward pass.
        result = base.addmm_(low_rank, up, alpha=scaling)
    else:
        ratio = (magnitude / weight_norm(weight, lora_a, lora_b, scaling)).to(x.dtype)
        adapted = ratio * (scaling * (low_rank @ up))
        inner = base if dropped is None else linear(dropped, weight)
        result = base + (ratio - 1) * inner + adapted
    return result if bias is None else result + bias.to(x.dtype)


def linear(x: Tensor, weight: Weight) -> Tensor:
    """x [T, K] times the transposed weight [N, K], dense or quantised."""
    return x @ weight.t() if isinstance(weight, Tensor) else frozen_linear(x, weight)


@torch.no_grad()
def weight_norm(weight: Weight, lora_a: Tensor, lora_b: Tensor, scaling: float) -> Tensor:
    """||W + s B A||_2 of every output feature, fp32 [N], without gradient."""
    dense = weight if isinstance(weight, Tensor) else weight.dequantise(lora_a.dtype)
    adapted = torch.addmm(dense.to(lora_a.dtype), lora_b, lora_a, alpha=scaling)
    norm: Tensor = torch.linalg.norm(adapted, dim=1)
    return norm
