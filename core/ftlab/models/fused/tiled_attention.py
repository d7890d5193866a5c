"""The backward pass of attention some heads at a time: the gradients replace q, k and v.

Heads know nothing of each other, so that once the gradients of some are made, nobody needs their q,
k and v any more, and only those of some heads take room of their own.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab.models.fused import layer_forward as whole
from ftlab.models.fused.layer import Layer
from ftlab.models.fused.layer_backward import turn_back
from ftlab.models.fused.layer_forward import Run
from ftlab.planning.tiles import head_parts


def room_columns(run: Run, layer: Layer) -> int:
    """Of the gradients of q, k and v that exist beside q, k and v."""
    return (layer.sizes.query + 2 * layer.sizes.key) // _parts(run, layer)


def attention_backward(
    run: Run, layer: Layer, qkv: Tensor, attended: Tensor, slope: Tensor, room: Tensor
) -> None:
    """qkv [T, Q + 2 K] becomes its gradient, before rotation and norms.

    Args:
        attended: [T, Q + pad], what attention gave.
        slope: [T, Q], its gradient.
        room: T x `room_columns` elements of scratch.
    """
    sizes, stats = layer.sizes, run.storage.small[layer.index].stats
    parts, group = _parts(run, layer), sizes.heads // sizes.kv_heads
    count = sizes.kv_heads // parts
    projected = whole.split_heads(layer, qkv)
    q, k, v = whole.rotated(run, layer, qkv)
    grad, out = whole.as_heads(slope, sizes.head_dim), whole.heads_of(layer, attended)
    made = room.view(run.tokens, count * (group + 2), sizes.head_dim)
    dq, dk, dv = torch.split(made, [count * group, count, count], dim=1)
    for first in range(0, sizes.kv_heads, count):
        kv = slice(first, first + count)
        own = slice(first * group, (first + count) * group)
        lse = stats["lse"]
        run.attention[layer.window].backward(
            grad[:, own], q[:, own], k[:, kv], v[:, kv], out[:, own],
            lse if parts == 1 else lse[own], run.plan, scale=run.scale, window=layer.window,
            softcap=run.softcap, dq=dq, dk=dk, dv=dv,
        )  # fmt: skip
        places = projected[0][:, own], projected[1][:, kv], projected[2][:, kv]
        rstd = _statistics(stats, sizes.heads, own, kv)
        turn_back(run, layer, dq, dk, places[0], places[1], rstd)
        for place, part in zip(places, (dq, dk, dv), strict=True):
            place.copy_(part)


def _statistics(stats: dict[str, Tensor], heads: int, own: slice, kv: slice) -> Tensor | None:
    """Of the norms of some heads of q and of k beside them."""
    rstd = stats.get("heads")
    if rstd is None:
        return None
    return torch.cat((rstd[:, own], rstd[:, heads + kv.start : heads + kv.stop]), dim=1)


def _parts(run: Run, layer: Layer) -> int:
    """The reference keeps a log-sum-exp of its own that does not come apart by heads."""
    pair = run.attention[layer.window]
    return 1 if pair.name == "reference" else head_parts(layer.sizes.kv_heads)
