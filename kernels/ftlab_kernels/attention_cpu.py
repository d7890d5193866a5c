"""Attention on the CPU with torch's own kernels: the backward pass reuses what forward computed.

    o = softmax(scale q k^T) v, causal within each sequence        see `reference.attention`

The same padded batches as the reference's, but the log-sum-exp is kept, so nothing of the forward
pass is computed twice. Takes the arguments of the launchers of `attention`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ftlab_kernels.attention_layout import Layout
from ftlab_kernels.reference.attention import Padded, padded

_ATEN: Any = torch.ops.aten  # type: ignore[attr-defined]  # missing in torch's own stubs
_NAME = "_scaled_dot_product_flash_attention_for_cpu"
_FORWARD: Any = getattr(_ATEN, _NAME, None)
_BACKWARD: Any = getattr(_ATEN, f"{_NAME}_backward", None)


def takes(plan: Layout, dtype: torch.dtype, window: int | None, softcap: float | None) -> bool:
    """Whether it computes this: on the CPU, every key before a query seen, no soft-cap."""
    seen = window is None or window >= plan.longest
    known = _FORWARD is not None and _BACKWARD is not None
    wanted = dtype in (torch.float32, torch.float64, torch.bfloat16)
    return known and wanted and seen and softcap is None and plan.device.type == "cpu"


def cpu_forward(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, window: int | None = None,
    softcap: float | None = None, out: Tensor | None = None, lse: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """o [T, Hq, D] and the log-sum-exp of every padded row, flat, for `cpu_backward`."""
    plan = padded(layout)
    found, sums = [], []
    for heads in _batches(plan, q, k, v):
        made, total = _FORWARD(*heads, 0.0, True, scale=scale)
        found.append(_rows(made))
        sums.append(total.reshape(-1))
    joined = _one(found)
    if plan.tokens is not None:
        joined = joined.index_select(0, plan.places[0])
    flat = _one(sums)
    return (
        joined if out is None else out.copy_(joined),
        flat if lse is None else lse.copy_(flat),
    )


def cpu_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, layout: Layout, *,
    scale: float, window: int | None = None, softcap: float | None = None,
    dq: Tensor | None = None, dk: Tensor | None = None, dv: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """dq [T, Hq, D], dk and dv [T, Hkv, D] from what `cpu_forward` gave."""
    plan, kv_heads = padded(layout), k.shape[1]
    sizes = [count * length * q.shape[1] for count, length in plan.groups]
    slopes = _batches(plan, grad, once=True)
    values = zip(
        slopes, _batches(plan, q, k, v), _batches(plan, out), torch.split(lse, sizes), strict=True
    )
    found: list[tuple[Tensor, ...]] = []
    for (d_out,), heads, (made,), total in values:
        rows = total.view(made.shape[0], made.shape[1], made.shape[2])
        three = _BACKWARD(d_out, *heads, made, rows, 0.0, True, scale=scale)
        found.append((_rows(three[0]), *(_rows(_shared(slope, kv_heads)) for slope in three[1:])))
    results = []
    for slope, to in zip(zip(*found, strict=True), (dq, dk, dv), strict=True):
        gathered = _gathered(plan, _one(list(slope)))
        results.append(gathered if to is None else to.copy_(gathered))
    return results[0], results[1], results[2]


def _batches(plan: Padded, *xs: Tensor, once: bool = False) -> Iterator[list[Tensor]]:
    """Each padded batch of x [T, H, D] as [count, heads, length, D], as many heads as the first.

    `once`: a token that occurs several times is zero but for its first place.
    """
    if plan.tokens is not None:
        rows = [_first(plan, x) if once else _spread(plan, x) for x in xs]
    else:
        rows = list(xs)
    sizes = [count * length for count, length in plan.groups]
    split = [torch.split(x, sizes) for x in rows]
    for number, (count, length) in enumerate(plan.groups):
        yield [
            _grouped(part[number].view(count, length, *part[number].shape[1:]), xs[0].shape[1])
            for part in split
        ]


def _grouped(x: Tensor, heads: int) -> Tensor:
    """[count, length, H, D] to [count, heads, length, D]."""
    repeats = heads // x.shape[2]
    x = x.transpose(1, 2)
    return x.repeat_interleave(repeats, dim=1) if repeats > 1 else x


def _shared(x: Tensor, kv_heads: int) -> Tensor:
    """Gradients of repeated heads summed: [count, Hq, length, D] to [count, Hkv, length, D]."""
    count, heads, length, width = x.shape
    if heads == kv_heads:
        return x
    return x.reshape(count, kv_heads, heads // kv_heads, length, width).sum(2)


def _rows(x: Tensor) -> Tensor:
    """[count, H, length, D] to [count * length, H, D]."""
    return x.transpose(1, 2).reshape(-1, x.shape[1], x.shape[3])


def _one(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _spread(plan: Padded, x: Tensor) -> Tensor:
    """Rows of x in all their padded places, zero where there is none."""
    assert plan.tokens is not None
    return torch.cat((x, x.new_zeros(1, *x.shape[1:]))).index_select(0, plan.tokens)


def _first(plan: Padded, x: Tensor) -> Tensor:
    """Rows of x in their first padded place, zero everywhere else."""
    assert plan.tokens is not None
    return x.new_zeros(len(plan.tokens), *x.shape[1:]).index_copy_(0, plan.places[0], x)


def _gathered(plan: Padded, x: Tensor) -> Tensor:
    """The adjoint of `_spread`: a token's places summed in their order."""
    if plan.tokens is None:
        return x
    total = x.index_select(0, plan.places[0])
    if len(plan.places) > 1:
        zero = torch.cat((x, x.new_zeros(1, *x.shape[1:])))
        for places in plan.places[1:]:
            total += zero.index_select(0, places)
    return total
