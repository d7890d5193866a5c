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

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own convention

from ftlab_kernels.reference.block_attention import block_attention

_SLACK = 0.75  # sequences at least this share of the longest one may be padded up to it
_SHORT = 32  # and any up to this length


@dataclass(frozen=True, slots=True)
class Group:
    """Sequences that go through attention as one padded batch."""

    count: int
    length: int
    tokens: Tensor | None  # int64 [count * length] gather indices; None: the tokens as they lie


@dataclass(frozen=True, slots=True)
class Layout:
    """How a pack of sequences is batched; made once for all layers."""

    groups: tuple[Group, ...]
    places: Tensor | None  # int64 [T]: where each token lies in the concatenated padded groups
    longest: int


def layout(cu_seqlens: Tensor | Sequence[int], device: torch.device | str = "cpu") -> Layout:
    """Batch sequences of similar length.

    Args:
        cu_seqlens: [n + 1] rising boundaries, from 0 to T. A tensor on the GPU is waited for, so
            keep it on the CPU.
    """
    bounds = cu_seqlens.tolist() if isinstance(cu_seqlens, Tensor) else list(cu_seqlens)
    lengths = [end - start for start, end in zip(bounds, bounds[1:], strict=False)]
    if not lengths or bounds[0] != 0 or min(lengths) < 1:
        raise ValueError(f"cu_seqlens must rise from 0, got {bounds}")
    if min(lengths) == max(lengths):
        return Layout((Group(len(lengths), lengths[0], None),), None, lengths[0])
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    groups, places, base = [], torch.empty(bounds[-1], dtype=torch.int64), 0
    while order:
        longest = lengths[order[0]]
        floor = longest if longest <= _SHORT else max(_SHORT, int(longest * _SLACK))
        members = [i for i in order if longest <= _SHORT or lengths[i] >= floor]
        order = order[len(members) :]
        rows = []
        for i in members:
            inside = torch.arange(longest).clamp_(max=lengths[i] - 1)
            rows.append(bounds[i] + inside)
            places[bounds[i] : bounds[i + 1]] = base + torch.arange(lengths[i])
            base += longest
        groups.append(Group(len(members), longest, torch.cat(rows).to(device)))
    return Layout(tuple(groups), places.to(device), max(lengths))


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
    outputs = [_group(q, k, v, group, scale, window, softcap) for group in plan.groups]
    joined = outputs[0] if len(outputs) == 1 else torch.cat(outputs)
    return joined if plan.places is None else joined.index_select(0, plan.places)


def _group(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    group: Group,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """One padded batch: [count * length, Hq, D]."""
    q, k, v = (_batched(x, group) for x in (q, k, v))
    if window is not None and window >= group.length:
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


def _batched(x: Tensor, group: Group) -> Tensor:
    """[T, H, D] to [count, H, length, D]."""
    picked = x if group.tokens is None else x.index_select(0, group.tokens)
    return picked.view(group.count, group.length, *x.shape[1:]).transpose(1, 2)
