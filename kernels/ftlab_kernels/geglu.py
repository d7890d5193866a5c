"""GeGLU in Triton, forward and backward, both forms of GELU.

    forward    y = gelu(g) u
    exact      gelu(g) = g P,  P = (1 + erf(g / sqrt 2)) / 2,
               gelu'(g) = P + g exp(-g^2 / 2) / sqrt(2 pi)
    tanh       gelu(g) = g (1 + t) / 2,  t = tanh(a (g + b g^3)),
               gelu'(g) = (1 + t) / 2 + g (1 - t^2) a (1 + 3 b g^2) / 2
    backward   dg = dy u gelu'(g),  du = dy gelu(g);   a = sqrt(2 / pi), b = 0.044715

Everything in fp32, rounded once. Hendrycks and Gimpel 2016; Shazeer 2020.
"""

from typing import Any, Literal

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.geglu import geglu as reference
from ftlab_kernels.rows import row_stride, rows_2d

Approximate = Literal["none", "tanh"]


@triton.jit
def gelu_and_slope(g, TANH: tl.constexpr):
    """gelu(g) and its derivative."""
    if TANH:
        inner = 0.7978845608028654 * (g + 0.044715 * g * g * g)
        t = 2.0 * tl.sigmoid(2.0 * inner) - 1.0  # tanh
        half = tl.sigmoid(2.0 * inner)  # (1 + tanh) / 2
        inner_slope = 0.7978845608028654 * (1.0 + 3.0 * 0.044715 * g * g)
        return g * half, half + 0.5 * g * (1.0 - t * t) * inner_slope
    p = 0.5 * (1.0 + tl.erf(g * 0.7071067811865476))
    return g * p, p + g * 0.3989422804014327 * tl.exp(-0.5 * g * g)


@triton.jit
def geglu_forward_kernel(
    p_gate, p_up, p_out, T, I, stride_gate, stride_up, stride_out,
    TANH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows, BLOCK columns."""
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    o_col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    m = (o_row < T) & (o_col < I)
    gate = tl.load(p_gate + o_row * stride_gate + o_col, mask=m, other=0.0).to(tl.float32)
    up = tl.load(p_up + o_row * stride_up + o_col, mask=m, other=0.0).to(tl.float32)
    gelu, _ = gelu_and_slope(gate, TANH)
    y = (gelu * up).to(p_out.dtype.element_ty)
    tl.store(p_out + o_row * stride_out + o_col, y, mask=m)


@triton.jit
def geglu_backward_kernel(
    p_grad, p_gate, p_up, p_d_gate, p_d_up, p_out, T, I,
    stride_grad, stride_gate, stride_up, stride_d_gate, stride_d_up, stride_out,
    TANH: tl.constexpr, WITH_OUT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows, BLOCK columns; all is read before anything is written."""
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    o_col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    m = (o_row < T) & (o_col < I)
    gate = tl.load(p_gate + o_row * stride_gate + o_col, mask=m, other=0.0).to(tl.float32)
    up = tl.load(p_up + o_row * stride_up + o_col, mask=m, other=0.0).to(tl.float32)
    grad = tl.load(p_grad + o_row * stride_grad + o_col, mask=m, other=0.0).to(tl.float32)
    gelu, slope = gelu_and_slope(gate, TANH)
    d_gate = (grad * up * slope).to(p_d_gate.dtype.element_ty)
    tl.store(p_d_gate + o_row * stride_d_gate + o_col, d_gate, mask=m)
    d_up = (grad * gelu).to(p_d_up.dtype.element_ty)
    tl.store(p_d_up + o_row * stride_d_up + o_col, d_up, mask=m)
    if WITH_OUT:
        y = (gelu * up).to(p_out.dtype.element_ty)
        tl.store(p_out + o_row * stride_out + o_col, y, mask=m)


def geglu_forward(
    gate: Tensor, up: Tensor, *, approximate: Approximate = "tanh", out: Tensor | None = None
) -> Tensor:
    """y [T, I]; rows may be strided. `out` may be `gate` or `up`."""
    T, I = gate.shape
    out = torch.empty((T, I), dtype=gate.dtype, device=gate.device) if out is None else out
    config = tuning.lookup("geglu", "forward", tuning.capability(gate))
    geglu_forward_kernel[_grid(T, I, config)](
        gate, up, out, T, I, row_stride(gate), row_stride(up), row_stride(out),
        TANH=approximate == "tanh", **config,
    )  # fmt: skip
    return out


def geglu_backward(
    grad: Tensor, gate: Tensor, up: Tensor, *, approximate: Approximate = "tanh",
    d_gate: Tensor | None = None, d_up: Tensor | None = None, y: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(d_gate, d_up), each [T, I], in one pass; `y`, where given, receives gelu(gate) up.

    Every output may be the storage of any input: a program reads its elements before it writes.
    """
    T, I = gate.shape
    d_gate = torch.empty((T, I), dtype=gate.dtype, device=gate.device) if d_gate is None else d_gate
    d_up = torch.empty((T, I), dtype=up.dtype, device=up.device) if d_up is None else d_up
    config = tuning.lookup("geglu", "backward", tuning.capability(gate))
    geglu_backward_kernel[_grid(T, I, config)](
        grad, gate, up, d_gate, d_up, d_gate if y is None else y, T, I,
        row_stride(grad), row_stride(gate), row_stride(up), row_stride(d_gate), row_stride(d_up),
        0 if y is None else row_stride(y), TANH=approximate == "tanh", WITH_OUT=y is not None,
        **config,
    )  # fmt: skip
    return d_gate, d_up


def _grid(T: int, I: int, config: tuning.Config) -> tuple[int, int]:
    return -(-T // config["ROWS"]), -(-I // config["BLOCK"])


class GeGLU(torch.autograd.Function):
    """Gradients by the kernel."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, approximate: Approximate) -> Tensor:
        """Save the two inputs."""
        ctx.save_for_backward(gate, up)
        ctx.approximate = approximate
        return geglu_forward(rows_2d(gate), rows_2d(up), approximate=approximate).view(gate.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        """One pass for both gradients."""
        gate, up = ctx.saved_tensors
        d_gate, d_up = geglu_backward(
            rows_2d(grad), rows_2d(gate), rows_2d(up), approximate=ctx.approximate
        )
        return d_gate.view(gate.shape), d_up.view(up.shape), None


def geglu(gate: Tensor, up: Tensor, approximate: Approximate = "tanh") -> Tensor:
    """gelu(gate) up over equal shapes [..., I]; `approximate` as in torch's gelu."""
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate is {approximate!r}; allowed: none, tanh")
    if choose("geglu", gate, up).name == "kernel":
        out: Tensor = GeGLU.apply(gate, up, approximate)  # type: ignore[no-untyped-call]
        return out
    return reference(gate, up, approximate)
