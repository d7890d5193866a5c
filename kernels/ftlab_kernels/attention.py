"""Causal attention over segments of many lengths laid end to end; every bit repeats.

    s = scale q k^T  (soft-capped: c tanh(s / c)),  o = softmax(s where 0 <= i - j < window) v

Grouped-query heads, sliding window, soft-cap, head dims up to 256, and prompts that several
continuations share. Saved for backward: q, k, v, o and the log-sum-exp of each row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ftlab_kernels import attention_cpu, attention_library, dispatch
from ftlab_kernels.attention_backward import attention_backward
from ftlab_kernels.attention_config import MAX_HEAD_DIM
from ftlab_kernels.attention_forward import attention_forward
from ftlab_kernels.attention_layout import Layout, layout
from ftlab_kernels.reference.attention import attention as reference

__all__ = [
    "Layout", "Operators", "attention", "attention_backward", "attention_forward", "layout",
    "operators",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Operators:
    """The forward and backward that one batch runs, and why; both take the launchers' arguments.

    The log-sum-exp that `forward` returns is for the same object's `backward` alone.
    """

    name: dispatch.Name
    reason: str
    forward: Callable[..., tuple[Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor]]


def operators(
    plan: Layout,
    q_heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: torch.dtype,
    window: int | None = None,
    softcap: float | None = None,
) -> Operators:
    """Choose once for a batch and one kind of layer; the choice is kept with the layout."""
    key = (q_heads, kv_heads, head_dim, dtype, window, softcap, dispatch.mode())
    made: Operators = plan.once(key, lambda: _operators(plan, *key[2:-1]))
    return made


def _operators(
    plan: Layout, head_dim: int, dtype: torch.dtype, window: int | None, softcap: float | None
) -> Operators:
    unless = None
    if head_dim > MAX_HEAD_DIM:
        unless = f"a head_dim of {head_dim} is above {MAX_HEAD_DIM}"
    probe = torch.empty(0, dtype=dtype, device=plan.device)
    library = attention_library.preferred(plan, head_dim, dtype, window, softcap)
    choice = dispatch.choose("attention", probe, unless=unless, library=library)
    forward, backward = {
        "kernel": (attention_forward, attention_backward),
        "library": (attention_library.library_forward, attention_backward),
        "reference": (_reference_forward, _reference_backward),
    }[choice.name]
    if choice.name == "reference" and attention_cpu.takes(plan, dtype, window, softcap):
        forward, backward = attention_cpu.cpu_forward, attention_cpu.cpu_backward
    return Operators(choice.name, choice.reason, forward, backward)


def _reference_forward(
    q: Tensor, k: Tensor, v: Tensor, layout: Layout, *, scale: float, window: int | None = None,
    softcap: float | None = None, out: Tensor | None = None, lse: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The reference as a launcher; its backward computes forward again, so lse stays empty."""
    with torch.no_grad():
        result = reference(q, k, v, layout, scale, window, softcap)
    result = result if out is None else out.copy_(result)
    return result, q.new_empty(0, dtype=torch.float32) if lse is None else lse


def _reference_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, layout: Layout, *,
    scale: float, window: int | None = None, softcap: float | None = None,
    dq: Tensor | None = None, dk: Tensor | None = None, dv: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The reference's gradients, through autograd."""
    with torch.set_grad_enabled(True):
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        result = reference(q, k, v, layout, scale, window, softcap)
        grads = torch.autograd.grad(result, (q, k, v), grad)
    targets = (dq, dk, dv)
    copied = [x if to is None else to.copy_(x) for x, to in zip(grads, targets, strict=True)]
    return copied[0], copied[1], copied[2]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, plan: Layout, chosen: Operators,
        rule: dict[str, Any],
    ) -> Tensor:  # fmt: skip
        q, k, v = (x if x.stride(2) == 1 else x.contiguous() for x in (q, k, v))
        out, lse = chosen.forward(q, k, v, plan, **rule)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.plan, ctx.chosen, ctx.rule = plan, chosen, rule
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        grad = grad if grad.stride(2) == 1 else grad.contiguous()
        grads = ctx.chosen.backward(grad, q, k, v, out, lse, ctx.plan, **ctx.rule)
        return (*grads, None, None, None)


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
    """Causal attention within each segment and to the prompt that it continues.

    Args:
        q: [T, Hq, D]; k, v: [T, Hkv, D], Hq a multiple of Hkv.
        cu_seqlens: [n + 1] boundaries of the segments, or their `layout` (cheaper: once a batch).
        scale: multiplies the scores; above 0.
        window: number of keys a query sees, its own included; None for all before it.
        softcap: bound of the scores (Gemma 2), None for none.
        prefix: for boundaries, the segment that each segment continues, or -1; see `layout`.

    Returns:
        [T, Hq, D] in q's dtype.
    """
    if not isinstance(cu_seqlens, Layout):
        cu_seqlens = layout(cu_seqlens, q.device, prefix=prefix)
    heads = (q.shape[1], k.shape[1], q.shape[2])
    chosen = operators(cu_seqlens, *heads, q.dtype, window, softcap)
    if chosen.name == "reference":
        return reference(q, k, v, cu_seqlens, scale, window, softcap)
    rule = {"scale": scale, "window": window, "softcap": softcap}
    result: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        q, k, v, cu_seqlens, chosen, rule
    )
    return result
