"""Attention written out densely, pair by pair of tokens: what every implementation must equal."""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab_kernels.attention_layout import Layout, layout

PACKS: dict[str, tuple[list[int], list[int] | None]] = {
    "one": ([63], None),
    "mixed": ([1, 63, 65, 30], None),
    "pairs": ([70, 33, 50, 20, 5, 64, 40], [-1, 0, 0, 0, -1, 4, 4]),
}
NAMES = ("out", "dq", "dk", "dv")


def pack(name: str, device: str = "cpu") -> Layout:
    """The layout of one of PACKS."""
    lengths, prefix = PACKS[name]
    return layout(bounds(lengths), device, prefix=prefix)


def bounds(lengths: list[int]) -> list[int]:
    """Boundaries of segments of these lengths."""
    return [0, *torch.tensor(lengths).cumsum(0).tolist()]


def tensors(
    plan: Layout, heads: int, kv_heads: int, head_dim: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """q, k and v as slices of one fused buffer, and an upstream gradient."""
    generator = torch.Generator().manual_seed(plan.tokens)
    shape = (plan.tokens, 2 * heads + 2 * kv_heads, head_dim)
    fused = torch.randn(shape, generator=generator).to(dtype).to(plan.device)
    q, k, v, grad = fused.split([heads, kv_heads, kv_heads, heads], dim=1)
    return q, k, v, grad


def sees(plan: Layout, window: int | None) -> Tensor:
    """bool [T, T]: which query (row) sees which key."""
    segment = torch.arange(len(plan.lengths)).repeat_interleave(torch.tensor(plan.lengths))
    parent = torch.tensor(plan.prefix or [-1] * len(plan.lengths))[segment]
    same = (segment[:, None] == segment) | (parent[:, None] == segment)
    position = plan.positions().cpu()
    distance = position[:, None] - position
    return same & (distance >= 0) & (distance < (window or plan.tokens))


def dense(
    q: Tensor, k: Tensor, v: Tensor, plan: Layout, scale: float, window: int | None,
    softcap: float | None,
) -> Tensor:  # fmt: skip
    """[T, Hq, D] by the formula."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], dim=1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    hidden = ~sees(plan, window)
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(hidden, float("-inf")).softmax(-1), v)


def truth(
    q: Tensor, k: Tensor, v: Tensor, grad: Tensor, plan: Layout, scale: float, window: int | None,
    softcap: float | None,
) -> dict[str, Tensor]:  # fmt: skip
    """Output and gradients in fp64, by name; computed on the CPU."""
    inputs = [x.detach().cpu().double().requires_grad_() for x in (q, k, v)]
    out = dense(*inputs, plan, scale, window, softcap)
    grads = torch.autograd.grad(out, inputs, grad.cpu().double())
    return {name: x.to(q.device) for name, x in zip(NAMES, (out.detach(), *grads), strict=True)}
