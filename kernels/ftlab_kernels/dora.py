"""DoRA around the folded product: the norm of the adapted weight, the scaled output, dm.

    z = [x | u] [W | s B]^T,   n = ||W + s B A||_2 per feature,   c = m / n (held constant)
    y = c z + bias;   with dropout  y = x W^T - d(x) W^T + c z + bias,   z = [d(x) | u] [W | s B]^T
    dm = sum_t dy z / n;   with dropout  dx = dy W + d'((c - 1) dy W) + ...

Norms and sums in fp32. Liu et al. 2024, "DoRA". Library products between element-wise passes:
DoRA costs two more passes over y, and two more products where there is dropout.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ftlab_kernels.dropout import dropout
from ftlab_kernels.lora_group import LoraGroup

_ROWS = 1024  # features or tokens at a time: bounds the fp32 temporaries


class _Grads(Protocol):
    @property
    def magnitude(self) -> Tensor | None: ...


def norm_and_ratio(group: LoraGroup, weight: Tensor) -> tuple[Tensor, Tensor]:
    """n and c, fp32 [N]; both 1 for projections without a magnitude."""
    wide = torch.promote_types(weight.dtype, torch.float32)
    norm = torch.ones(group.N, dtype=wide, device=weight.device)
    ratio = torch.ones_like(norm)
    for target, linear in enumerate(group.linears):
        adapter = linear.adapter
        if adapter is None or adapter.magnitude is None:
            continue
        begin, end = group.rows[target], group.rows[target + 1]
        a, b = adapter.a.detach().to(wide), adapter.b.detach().to(wide)
        for first in range(begin, end, _ROWS):
            last = min(first + _ROWS, end)
            dense = weight[first:last, : group.K].to(wide)
            adapted = torch.addmm(dense, b[first - begin : last - begin], a, alpha=adapter.scaling)
            norm[first:last] = torch.linalg.norm(adapted, dim=1)
        ratio[begin:end] = adapter.magnitude.detach().to(wide) / norm[begin:end]
    return norm, ratio


def forward(
    wide: Tensor,
    weight: Tensor,
    group: LoraGroup,
    ratio: Tensor,
    seeds: Tensor | None,
    *,
    product: Tensor,
    out: Tensor,
) -> None:
    """z into `product` and y into `out`, both [T, N]; wide is [x | u]."""
    K, N = group.K, group.N
    scale = ratio.to(wide.dtype)
    if seeds is None or not group.columns.drops_any:
        torch.mm(wide, weight[:N].t(), out=product)
        torch.mul(product, scale, out=out)
    else:
        torch.mm(wide[:, :K], weight[:N, :K].t(), out=out)
        for target in range(len(group.linears)):
            part = group.part(target)
            dropped = dropout(wide[:, :K], group.columns.drops[target], seeds[target])
            inner = dropped @ weight[part, :K].t()
            product[:, part] = torch.addmm(inner, wide[:, K:], weight[part, K:].t())
            out[:, part] += product[:, part] * scale[part] - inner
    for target, linear in enumerate(group.linears):
        if linear.bias is not None:
            out[:, group.part(target)] += linear.bias.detach().to(out.dtype)


def magnitude_grads(
    grad: Tensor,
    product: Tensor,
    norm: Tensor,
    group: LoraGroup,
    grads: Sequence[_Grads | None],
    accumulate: bool,
) -> None:
    """dm of every magnitude, from dy [T, N] before it is scaled."""
    for target, one in enumerate(grads):
        if one is None or one.magnitude is None:
            continue
        part = group.part(target)
        total = torch.zeros_like(norm[part])
        for first in range(0, len(grad), _ROWS):
            rows = slice(first, first + _ROWS)
            total += (grad[rows, part].to(norm.dtype) * product[rows, part]).sum(0)
        total /= norm[part]
        one.magnitude.copy_(one.magnitude + total if accumulate else total)


def unscaled(
    grad: Tensor,
    weight: Tensor,
    group: LoraGroup,
    ratio: Tensor,
    seeds: Tensor,
    *,
    dx: Tensor,
) -> None:
    """dx = dy W + sum over targets of d'((c - 1) dy W); what is left is d'(v A)."""
    K, N = group.K, group.N
    torch.mm(grad, weight[:N, :K], out=dx)
    scale = (ratio - 1).to(grad.dtype)
    for target, linear in enumerate(group.linears):
        if linear.adapter is None or linear.adapter.magnitude is None:
            continue
        part = group.part(target)
        inner = (grad[:, part] * scale[part]) @ weight[part, :K]
        dx += dropout(inner, group.columns.drops[target], seeds[target], out=inner)
