"""cuDNN's attention through torch, with the launchers' arguments, where it is faster and repeatable.

It takes batches of equally long sequences. Its forward pass has one owner for every output; its
backward pass adds dq with atomics, except where torch asks it for its deterministic algorithm.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ftlab_kernels.attention_layout import Layout


def preferred(
    plan: Layout,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    window: int | None,
    softcap: float | None,
) -> str | None:
    """Why the library is to be taken for this batch, or None."""
    return None


def library_forward(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, window: int | None = None,
    softcap: float | None = None, out: Tensor | None = None, lse: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """As `attention_forward`, for a uniform layout without window and soft-cap."""
    made = torch.ops.aten._scaled_dot_product_cudnn_attention(
        *(_batched(x, layout) for x in (q, k, v)), None, True, 0.0, True, False, scale=scale
    )
    result = made[0].transpose(1, 2).reshape(q.shape)
    return (result if out is None else out.copy_(result)), made[1]


def _batched(x: Tensor, plan: Layout) -> Tensor:
    """[T, H, D] as [n, H, L, D]; a view."""
    return x.unflatten(0, (len(plan.lengths), plan.lengths[0])).transpose(1, 2)


def library_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, layout: Layout, *,
    scale: float, window: int | None = None, softcap: float | None = None,
    dq: Tensor | None = None, dk: Tensor | None = None, dv: Tensor | None = None, **_: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """As `attention_backward`."""
    raise NotImplementedError
