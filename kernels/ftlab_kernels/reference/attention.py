"""Causal attention reference over sequences of many lengths laid end to end.

    s = scale q k^T,  softcapped: s' = c tanh(s / c)
    o = softmax(s' where 0 <= i - j < window) v           i query, j key, within one sequence

Grouped-query heads share keys and values. Sequences of similar length form one padded batch
(padding lies to the right, where causality hides it), so nothing of T x T exists. Without
soft-cap and window torch's own attention is used, else the explicit one of `block_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ftlab_kernels.reference.block_attention import block_attention

_SLACK = 0.75  # sequences at least this share of the longest one may be padded up to it
_SHORT = 64  # and any up to this length


@dataclass(frozen=True, slots=True)
class Layout:
    """How a pack of sequences is batched; made once for all layers."""

    groups: tuple[tuple[int, int], ...]  # (sequences, padded length) of each batch
    tokens: Tensor | None  # int64 [P]: the token in each padded place, T where there is none
    places: Tensor | None  # int64 [T]: the padded place of each token
    longest: int  # tokens of the longest sequence


def layout(cu_seqlens: Tensor | Sequence[int], device: torch.device | str = "cpu") -> Layout:
    """Batch sequences of similar length.

    Args:
        cu_seqlens: [n + 1] rising boundaries, from 0 to T. A tensor on the GPU is waited for, so
            keep it on the CPU.

    Raises ValueError where they do not rise from 0.
    """
    bounds = cu_seqlens.tolist() if isinstance(cu_seqlens, Tensor) else list(cu_seqlens)
    lengths = [end - start for start, end in pairwise(bounds)]
    if not lengths or bounds[0] != 0 or min(lengths) < 1:
        raise ValueError(f"cu_seqlens must rise from 0, got {bounds}")
    if min(lengths) == max(lengths):
        return Layout(((len(lengths), lengths[0]),), None, None, lengths[0])
    groups, base = [], 0
    places = torch.empty(bounds[-1], dtype=torch.int64)
    for members in _similar(lengths):
        longest = lengths[members[0]]
        for i in members:
            places[bounds[i] : bounds[i + 1]] = base + torch.arange(lengths[i])
            base += longest
        groups.append((len(members), longest))
    tokens = torch.full((base,), bounds[-1]).index_copy_(0, places, torch.arange(bounds[-1]))
    return Layout(tuple(groups), tokens.to(device), places.to(device), max(lengths))


def _similar(lengths: list[int]) -> list[list[int]]:
    """Indices of sequences that share a batch, longest first."""
    batches: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        longest = lengths[batches[-1][0]] if batches else 0
        if batches and (longest <= _SHORT or lengths[i] >= max(_SHORT, longest * _SLACK)):
            batches[-1].append(i)
        else:
            batches.append([i])
    return batches


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor | Sequence[int] | Layout,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Causal attention within each sequence.

    Args:
        q: [T, Hq, D]; k, v: [T, Hkv, D], Hq a multiple of Hkv.
        cu_seqlens: [n + 1] boundaries of the sequences, or their `layout`.
        scale: multiplies the scores.
        window: number of keys a query sees, its own included; None for all before it.
        softcap: bound of the scores (Gemma 2), None for none.

    Returns:
        [T, Hq, D] in q's dtype.
    """
    plan = cu_seqlens if isinstance(cu_seqlens, Layout) else layout(cu_seqlens, q.device)
    if plan.tokens is not None:
        q, k, v = (_spread_rows(x, plan) for x in (q, k, v))
    sizes = [count * length for count, length in plan.groups]
    queries, keys, values = (torch.split(x, sizes) for x in (q, k, v))
    outputs = [
        _batch(group, queries[i], keys[i], values[i], scale, window, softcap)
        for i, group in enumerate(plan.groups)
    ]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if plan.places is None:
        return joined
    rows: Tensor = _Collect.apply(joined, plan.tokens, plan.places)  # type: ignore[no-untyped-call]
    return rows


def _spread_rows(x: Tensor, plan: Layout) -> Tensor:
    placed: Tensor = _Spread.apply(x, plan.tokens, plan.places)  # type: ignore[no-untyped-call]
    return placed


def _batch(
    group: tuple[int, int],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """One batch of equally long sequences: [count * length, Hq, D]."""
    count, length = group
    q, k, v = (x.view(count, length, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
    if window is not None and window >= length:
        window = None
    if softcap is None and window is None and not _must_repeat(q):
        repeats = q.shape[1] // k.shape[1]
        k, v = (x.repeat_interleave(repeats, dim=1) if repeats > 1 else x for x in (k, v))
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    else:
        out = block_attention(q, k, v, scale, window, softcap)
    return out.transpose(1, 2).reshape(-1, q.shape[1], q.shape[3])


def _must_repeat(q: Tensor) -> bool:
    """torch's fused attention sums with atomics on a GPU; asked for determinism, take our own."""
    return q.is_cuda and torch.are_deterministic_algorithms_enabled()


def _spread(x: Tensor, tokens: Tensor) -> Tensor:
    """Rows [T, ...] to padded places [P, ...], zero where there is no token."""
    return torch.cat((x, x.new_zeros(1, *x.shape[1:]))).index_select(0, tokens)


class _Spread(torch.autograd.Function):
    """Rows to padded places. Its adjoint is a plain selection, as every row has one place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        return _spread(x, tokens)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (places,) = ctx.saved_tensors
        return grad.index_select(0, places), None, None


class _Collect(torch.autograd.Function):
    """Padded places back to rows: the adjoint of `_Spread`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (tokens,) = ctx.saved_tensors
        return _spread(grad, tokens), None, None
