"""The attention pair that the engine calls: forward with what backward needs, and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ftlab_kernels.reference.attention import Layout, attention


class PlainAttention:
    """The reference pair: backward computes the forward pass once more under autograd."""

    name = "reference"

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        plan: Layout,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        out: Tensor,
    ) -> tuple[Tensor, None]:
        """q [T, Hq, D]; k, v [T, Hkv, D]; into out [T, Hq, D]."""
        with torch.no_grad():
            out.copy_(attention(*_contiguous(q, k, v), plan, scale, window, softcap))
        return out, None

    def backward(
        self,
        grad: Tensor,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: None,
        plan: Layout,
        *,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        dq: Tensor,
        dk: Tensor,
        dv: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Into dq, dk and dv, shaped as q, k and v."""
        leaves = [x.requires_grad_() for x in _contiguous(q, k, v)]
        with torch.enable_grad():
            again = attention(*leaves, plan, scale, window, softcap)
        found = torch.autograd.grad(again, leaves, grad.contiguous())
        for into, value in zip((dq, dk, dv), found, strict=True):
            into.copy_(value)
        return dq, dk, dv


def _contiguous(*tensors: Tensor) -> list[Any]:
    return [x.detach().contiguous() for x in tensors]


def attention_for(
    plan: Layout,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    window: int | None,
    softcap: float | None,
) -> Any:
    """The pair for one kind of layer and one batch."""
    return PlainAttention()
