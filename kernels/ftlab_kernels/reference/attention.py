"""Causal attention reference over sequences of many lengths laid end to end.

    s = scale q k^T,  softcapped: s' = c tanh(s / c)
    o = softmax(s' where 0 <= i - j < window) v           i query, j key, within one sequence

Grouped-query heads share keys and values. Sequences of similar length form one padded batch
(padding lies to the right, where causality hides it), so nothing of T x T exists. A prompt that
several continuations share is repeated before each of them. Without
soft-cap and window torch's own attention is used, else the explicit one of `block_attention`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ftlab_kernels.attention_layout import Layout, layout
from ftlab_kernels.reference.block_attention import block_attention

__all__ = ["Layout", "Padded", "attention", "layout", "padded"]

_SLACK = 0.75  # sequences at least this share of the longest one may be padded up to it
_SHORT = 64  # and any up to this length


class Padded(NamedTuple):
    """How a layout becomes padded batches. Without tables the rows are one batch as they lie."""

    groups: tuple[tuple[int, int], ...]  # (sequences, padded length) of each batch
    tokens: Tensor | None  # int64 [P]: the token in each padded place, T where there is none
    places: tuple[Tensor, ...]  # int64 [T] each: a token's first place, its second, ...; P for none


def padded(plan: Layout) -> Padded:
    """Sequences of similar length as padded batches; a shared prompt is repeated in each."""
    made: Padded = plan.once("padded", lambda: _padded(plan))
    return made


def _padded(plan: Layout) -> Padded:
    if plan.uniform:
        return Padded(((len(plan.lengths), plan.lengths[0]),), None, ())
    rows = _sequences(plan)
    lengths = [len(tokens) for tokens in rows]
    groups, parts, places = [], [], 0
    for members in _similar(lengths):
        longest = lengths[members[0]]
        for i in members:
            parts.append(F.pad(rows[i], (0, longest - lengths[i]), value=plan.tokens))
        groups.append((len(members), longest))
        places += len(members) * longest
    tokens = torch.cat(parts)
    return Padded(tuple(groups), tokens.to(plan.device), _places(tokens, plan))


def _sequences(plan: Layout) -> list[Tensor]:
    """The tokens of every sequence; a prompt stands in its continuations and not by itself."""
    parents = plan.prefix or (-1,) * len(plan.lengths)
    segments = [torch.arange(a, b) for a, b in pairwise(plan.bounds)]
    return [
        segments[i] if parent < 0 else torch.cat((segments[parent], segments[i]))
        for i, parent in enumerate(parents)
        if parent >= 0 or i not in parents
    ]


def _places(tokens: Tensor, plan: Layout) -> tuple[Tensor, ...]:
    """Where each token lies, one table for each time that it occurs."""
    order = tokens.argsort(stable=True)[: int((tokens < plan.tokens).sum())]
    counts = torch.bincount(tokens[order], minlength=plan.tokens)
    starts = counts.cumsum(0) - counts
    tables = []
    for copy in range(int(counts.max())):
        at = (starts + copy).clamp(max=len(order) - 1)
        tables.append(torch.where(copy < counts, order[at], len(tokens)).to(plan.device))
    return tuple(tables)


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
    prefix: Sequence[int] | None = None,
) -> Tensor:
    """Causal attention within each sequence.

    Args:
        q: [T, Hq, D]; k, v: [T, Hkv, D], Hq a multiple of Hkv.
        cu_seqlens: [n + 1] boundaries of the sequences, or their `layout`.
        scale: multiplies the scores.
        window: number of keys a query sees, its own included; None for all before it.
        softcap: bound of the scores (Gemma 2), None for none.
        prefix: for boundaries, the segment that each segment continues, or -1; see `layout`.

    Returns:
        [T, Hq, D] in q's dtype.
    """
    if not isinstance(cu_seqlens, Layout):
        cu_seqlens = layout(cu_seqlens, q.device, prefix=prefix)
    plan = padded(cu_seqlens)
    if plan.tokens is not None:
        q, k, v = (_spread_rows(x, plan) for x in (q, k, v))
    sizes = [count * length for count, length in plan.groups]
    queries, keys, values = (torch.split(x, sizes) for x in (q, k, v))
    outputs = [
        _batch(group, queries[i], keys[i], values[i], scale, window, softcap)
        for i, group in enumerate(plan.groups)
    ]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    if plan.tokens is None:
        return joined
    rows: Tensor = _Collect.apply(  # type: ignore[no-untyped-call]
        joined, plan.places[0]
    )
    return rows


def _spread_rows(x: Tensor, plan: Padded) -> Tensor:
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


def _rows(x: Tensor, index: Tensor) -> Tensor:
    """Rows of x by index; zero where the index is len(x)."""
    return torch.cat((x, x.new_zeros(1, *x.shape[1:]))).index_select(0, index)


class _Spread(torch.autograd.Function):
    """Rows to padded places. The adjoint adds a row's places in their order, without atomics."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tokens: Tensor, places: tuple[Tensor, ...]) -> Tensor:
        ctx.places = places
        return _rows(x, tokens)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        first, *others = ctx.places
        total = grad.index_select(0, first)
        for places in others:
            total = total + _rows(grad, places)
        return total, None, None


class _Collect(torch.autograd.Function):
    """Each token's first padded place. The adjoint leaves zero everywhere else."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(places)
        ctx.rows = len(x)
        return x.index_select(0, places)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        spread = grad.new_zeros(ctx.rows, *grad.shape[1:])
        return spread.index_copy_(0, places, grad), None
