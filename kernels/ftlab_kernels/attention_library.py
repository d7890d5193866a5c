"""cuDNN's forward of attention through torch, where it is faster than ours and repeats its bits.

It takes batches of equally long sequences. Every output has one owner there, and its log-sum-exp is
what our backward kernels read. cuDNN's own backward pass adds dq with atomics: of 60 repeats on an
H100, 9 differed at 16 x 1024, 19 at 2 x 2048 and all at 1 x 8192, so it is never taken.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.attention_layout import Layout

REASON = "cuDNN's forward is faster for equal lengths and repeats its bits; the backward is ours"
CAPABILITY = 90  # where it was measured
LEAST_TORCH = (2, 10)  # earlier ones call it otherwise
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

    Raises ValueError for a window within the segments, a soft-cap or segments of several lengths.
    """
    if not layout.uniform or softcap is not None or (window or layout.longest) < layout.longest:
        raise ValueError("cuDNN is given equally long segments without window and soft-cap alone")
    count = len(layout.lengths)
    queries, keys, values = (
        x.view(count, layout.longest, *x.shape[1:]).transpose(1, 2) for x in (q, k, v)
    )
    made, stats, *_ = torch._ops.ops.aten._scaled_dot_product_cudnn_attention(
        queries, keys, values, None, True, 0.0, True, False, scale=scale
    )
    result = made.transpose(1, 2).reshape(q.shape)
    rows = stats.reshape(count, q.shape[1], -1).transpose(0, 1).flatten(1)
    return (
        result if out is None else out.copy_(result),
        rows.contiguous() if lse is None else lse.copy_(rows),
    )
