"""cuDNN's forward of attention through torch, where it is faster than ours and repeats its bits.

It takes batches of equally long sequences. Every output has one owner there, and its log-sum-exp is
what our backward kernels read. cuDNN's own backward pass adds dq with atomics: of 60 repeats on an
H100, 9 differed at 16 x 1024, 19 at 2 x 2048 and all at 1 x 8192, so it is never taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.attention_layout import Layout

REASON = "cuDNN's forward is faster for equal lengths and repeats its bits; the backward is ours"
CAPABILITY = 90  # where it was measured
LEAST_TORCH = (2, 10)  # earlier ones call it otherwise
ROOM = 256 << 20  # bytes of output at a time: all of it up to 32,768 tokens of 32 heads of 128
SHORTEST = 512  # tokens; below, the launch decides
HEAD_DIM = 128  # at 64 ours was as fast or faster


def preferred(
    plan: Layout, head_dim: int, dtype: torch.dtype, window: int | None, softcap: float | None
) -> str | None:
    """Why cuDNN's forward pass is to be taken for a batch on its device, or None."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    fits = (
        plan.uniform
        and plan.capacity is None  # a captured graph must not hold one batch's lengths
        and plan.longest >= SHORTEST
        and head_dim == HEAD_DIM
        and dtype in (torch.bfloat16, torch.float16)
        and (window is None or window >= plan.longest)
        and softcap is None
        and version >= LEAST_TORCH
        and tuning.capability(plan.device) == CAPABILITY
    )
    return REASON if fits else None


def library_forward(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, window: int | None = None,
    softcap: float | None = None, out: Tensor | None = None, lse: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `attention_forward`, for a batch that `preferred` names; lse is [Hq, T] as there.

    It writes where it likes, and what it gives is copied: of so many heads at a time that this is
    at most `ROOM` bytes, or one head.

    Raises ValueError for a window within the segments, a soft-cap or segments of several lengths.
    """
    if not layout.uniform or softcap is not None or (window or layout.longest) < layout.longest:
        raise ValueError("cuDNN is given equally long segments without window and soft-cap alone")
    count = len(layout.lengths)
    queries, keys, values = (
        x.view(count, layout.longest, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)
    )
    out = q.new_empty(q.shape) if out is None else out
    lse = q.new_empty(q.shape[1::-1], dtype=torch.float32) if lse is None else lse
    each = q.shape[0] * q.shape[2] * q.element_size()
    for heads, kv_heads in _parts(q.shape[1], k.shape[1], max(1, ROOM // each)):
        made, stats, *_ = torch._ops.ops.aten._scaled_dot_product_cudnn_attention(
            queries[:, heads], keys[:, kv_heads], values[:, kv_heads], None, True, 0.0, True,
            False, scale=scale,
        )  # fmt: skip
        own = out[:, heads]
        own.copy_(made.transpose(1, 2).reshape(own.shape))
        lse[heads] = stats.reshape(count, own.shape[1], -1).transpose(0, 1).flatten(1)
    return out, lse


def _parts(q_heads: int, kv_heads: int, most: int) -> Iterator[tuple[slice, slice]]:
    """Heads of q with those of k and v, at most so many of q at a time: whole groups or equal parts
    of one.
    """
    group = q_heads // kv_heads
    step = min(q_heads, most // group * group)
    if most < group:
        step = next(n for n in range(most, 0, -1) if group % n == 0)
    for first in range(0, q_heads, step):
        last = min(first + step, q_heads)
        yield slice(first, last), slice(first // group, -(-last // group))
