"""The launchers' twins in plain PyTorch: what the engine calls on the CPU, same signatures.

Statistics in fp32 (fp64 for fp64), results rounded once. Formulas are those of the kernels.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

_ATEN: Any = torch.ops.aten  # type: ignore[attr-defined]  # missing in torch's own stubs


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _into(out: Tensor | None, value: Tensor) -> Tensor:
    return value if out is None else out.copy_(value)


def rms_norm_forward(
    x: Tensor,
    weight: Tensor,
    *,
    eps: float,
    offset: float = 0.0,
    weight_fp32: bool = False,
    residual: Tensor | None = None,
    out: Tensor | None = None,
    residual_out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """y, h = x + residual, and 1 / rms of h."""
    h = x if residual is None else torch.add(x, residual, out=residual_out)
    wide = h.to(_wide(h))
    rstd = torch.rsqrt(wide.pow(2).mean(-1) + eps)
    normed = wide * rstd[..., None]
    if weight_fp32:
        return _into(out, normed.mul_(weight.to(normed.dtype) + offset).to(h.dtype)), h, rstd
    scale = weight.to(h.dtype) + offset if offset else weight.to(h.dtype)
    return torch.mul(normed.to(h.dtype), scale, out=out), h, rstd


def rms_norm_backward(
    grad: Tensor,
    h: Tensor,
    weight: Tensor,
    rstd: Tensor,
    *,
    offset: float = 0.0,
    weight_fp32: bool = False,
    grad_residual: Tensor | None = None,
    out: Tensor | None = None,
    need_weight_grad: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """dh, with grad_residual added, and dw.

    With n = h rstd and g = dy (offset + w):  dh = rstd (g - n mean(g n)),  dw = sum_t dy n.
    """
    wide = _wide(h)
    normed, dy = h.to(wide) * rstd[..., None], grad.to(wide)
    seen = normed if weight_fp32 else normed.to(h.dtype).to(wide)
    d_weight = (dy * seen).flatten(0, -2).sum(0) if need_weight_grad else None
    sloped = dy * (weight.to(wide if weight_fp32 else h.dtype).to(wide) + offset)
    dh = rstd[..., None] * (sloped - normed * (sloped * normed).mean(-1, keepdim=True))
    if grad_residual is not None:
        dh = dh + grad_residual.to(wide)
    return _into(out, dh.to(h.dtype)), d_weight


def rope_(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, inverse: bool = False) -> None:
    """Rotate q [T, Hq, D] and k [T, Hkv, D] in place; `inverse` rotates back (the adjoint)."""
    half = cos.shape[-1]
    cos, sin = cos[:, None], sin[:, None]
    turn = -sin if inverse else sin
    for x in (q, k):
        first, second = x[..., :half], x[..., half : 2 * half]
        turned = first * turn
        first.mul_(cos).sub_(second * turn)
        second.mul_(cos).add_(turned)


def rope_norm_forward(
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    *,
    eps: float,
    offset: float = 0.0,
    weight_fp32: bool = False,
    q_out: Tensor,
    k_out: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """RMSNorm over each head of q and k, then the rotation."""
    rstds = []
    for x, weight, out in ((q, q_weight, q_out), (k, k_weight, k_out)):
        _, _, rstd = rms_norm_forward(
            x, weight, eps=eps, offset=offset, weight_fp32=weight_fp32, out=out
        )
        rstds.append(rstd)
    rope_(q_out, k_out, cos, sin)
    return q_out, k_out, torch.cat(rstds, dim=1)


def rope_norm_backward(
    dq: Tensor,
    dk: Tensor,
    q: Tensor,
    k: Tensor,
    cos: Tensor,
    sin: Tensor,
    q_weight: Tensor,
    k_weight: Tensor,
    rstd: Tensor,
    *,
    offset: float = 0.0,
    weight_fp32: bool = False,
    need_weight_grad: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """dq and dk become the gradients before the norm; q and k are the values before it."""
    rope_(dq, dk, cos, sin, inverse=True)
    found = []
    for grad, x, weight, part in (
        (dq, q, q_weight, rstd[:, : q.shape[1]]),
        (dk, k, k_weight, rstd[:, q.shape[1] :]),
    ):
        _, d_weight = rms_norm_backward(
            grad, x, weight, part, offset=offset, weight_fp32=weight_fp32, out=grad,
            need_weight_grad=need_weight_grad,
        )  # fmt: skip
        found.append(d_weight)
    return found[0], found[1]


def swiglu_forward(gate: Tensor, up: Tensor, *, out: Tensor | None = None) -> Tensor:
    """silu(gate) up."""
    return torch.mul(F.silu(gate), up, out=out)


def swiglu_backward(
    grad: Tensor, gate: Tensor, up: Tensor, *, d_gate: Tensor, d_up: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """d_gate, d_up and once more y; outputs may lie over inputs."""
    g, u, dy = (x.to(_wide(x)) for x in (gate, up, grad))
    silu = F.silu(g)
    d_g = _ATEN.silu_backward(dy * u, g)
    d_u = dy * silu
    torch.mul(silu.to(gate.dtype), up, out=y)
    d_gate.copy_(d_g)
    d_up.copy_(d_u)
    return d_gate, d_up


def geglu_forward(
    gate: Tensor,
    up: Tensor,
    *,
    approximate: Literal["none", "tanh"] = "tanh",
    out: Tensor | None = None,
) -> Tensor:
    """gelu(gate) up."""
    return _into(out, F.gelu(gate, approximate=approximate) * up)


def geglu_backward(
    grad: Tensor,
    gate: Tensor,
    up: Tensor,
    *,
    approximate: Literal["none", "tanh"] = "tanh",
    d_gate: Tensor,
    d_up: Tensor,
    y: Tensor,
) -> tuple[Tensor, Tensor]:
    """d_gate, d_up and once more y; outputs may lie over inputs."""
    g, u, dy = (x.to(_wide(x)) for x in (gate, up, grad))
    made = geglu_forward(gate, up, approximate=approximate)
    gelu = F.gelu(g, approximate=approximate)
    slope = _ATEN.gelu_backward(dy * u, g, approximate=approximate)
    d_gate.copy_(slope)
    d_up.copy_(dy * gelu)
    y.copy_(made)
    return d_gate, d_up
