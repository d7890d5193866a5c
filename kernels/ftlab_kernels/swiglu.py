"""SwiGLU in Triton, forward and backward.

    forward    y = silu(g) u,  silu(g) = g s,  s = sigmoid(g)
    backward   dg = dy u s (1 + g (1 - s)),  du = dy silu(g)

Everything in fp32, rounded once. Shazeer 2020, "GLU Variants Improve Transformer".
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.swiglu import swiglu as reference
from ftlab_kernels.rows import row_stride, rows_2d


@triton.jit
def swiglu_forward_kernel(
    p_gate, p_up, p_out, T, I, stride_gate, stride_up, stride_out,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows, BLOCK columns."""
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    o_col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    m = (o_row < T) & (o_col < I)
    gate = tl.load(p_gate + o_row * stride_gate + o_col, mask=m, other=0.0).to(tl.float32)
    up = tl.load(p_up + o_row * stride_up + o_col, mask=m, other=0.0).to(tl.float32)
    y = gate * tl.sigmoid(gate) * up
    tl.store(p_out + o_row * stride_out + o_col, y.to(p_out.dtype.element_ty), mask=m)


@triton.jit
def swiglu_backward_kernel(
    p_grad, p_gate, p_up, p_d_gate, p_d_up, p_out, T, I,
    stride_grad, stride_gate, stride_up, stride_d_gate, stride_d_up, stride_out,
    WITH_OUT: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows, BLOCK columns; all is read before anything is written."""
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    o_col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    m = (o_row < T) & (o_col < I)
    gate = tl.load(p_gate + o_row * stride_gate + o_col, mask=m, other=0.0).to(tl.float32)
    up = tl.load(p_up + o_row * stride_up + o_col, mask=m, other=0.0).to(tl.float32)
    grad = tl.load(p_grad + o_row * stride_grad + o_col, mask=m, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    silu = gate * sigmoid
    d_gate = grad * up * (sigmoid * (1.0 + gate * (1.0 - sigmoid)))
    d_up = grad * silu
    tl.store(p_d_gate + o_row * stride_d_gate + o_col, d_gate.to(p_d_gate.dtype.element_ty), mask=m)
    tl.store(p_d_up + o_row * stride_d_up + o_col, d_up.to(p_d_up.dtype.element_ty), mask=m)
    if WITH_OUT:
        y = (silu * up).to(p_out.dtype.element_ty)
        tl.store(p_out + o_row * stride_out + o_col, y, mask=m)


def swiglu_forward(gate: Tensor, up: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y [T, I]; rows may be strided. `out` may be `gate` or `up`."""
    T, I = gate.shape
    out = torch.empty((T, I), dtype=gate.dtype, device=gate.device) if out is None else out
    config = tuning.lookup("swiglu", "forward", tuning.capability(gate))
    swiglu_forward_kernel[_grid(T, I, config)](
        gate, up, out, T, I, row_stride(gate), row_stride(up), row_stride(out), **config
    )
    return out


def swiglu_backward(
    grad: Tensor, gate: Tensor, up: Tensor, *,
    d_gate: Tensor | None = None, d_up: Tensor | None = None, y: Tensor | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """(d_gate, d_up), each [T, I], in one pass; `y`, where given, receives silu(gate) up.

    Every output may be the storage of any input: a program reads its elements before it writes.
    """
    T, I = gate.shape
    d_gate = torch.empty((T, I), dtype=gate.dtype, device=gate.device) if d_gate is None else d_gate
    d_up = torch.empty((T, I), dtype=up.dtype, device=up.device) if d_up is None else d_up
    config = tuning.lookup("swiglu", "backward", tuning.capability(gate))
    swiglu_backward_kernel[_grid(T, I, config)](
        grad, gate, up, d_gate, d_up, d_gate if y is None else y, T, I,
        row_stride(grad), row_stride(gate), row_stride(up), row_stride(d_gate), row_stride(d_up),
        0 if y is None else row_stride(y), WITH_OUT=y is not None, **config,
    )  # fmt: skip
    return d_gate, d_up


def _grid(T: int, I: int, config: tuning.Config) -> tuple[int, int]:
    return -(-T // config["ROWS"]), -(-I // config["BLOCK"])


class SwiGLU(torch.autograd.Function):
    """Gradients by the kernel."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        """Save the two inputs."""
        ctx.save_for_backward(gate, up)
        return swiglu_forward(rows_2d(gate), rows_2d(up)).view(gate.shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """One pass for both gradients."""
        gate, up = ctx.saved_tensors
        d_gate, d_up = swiglu_backward(rows_2d(grad), rows_2d(gate), rows_2d(up))
        return d_gate.view(gate.shape), d_up.view(up.shape)


def swiglu(gate: Tensor, up: Tensor) -> Tensor:
    """silu(gate) up, elementwise over equal shapes [..., I]; keeps the dtype."""
    if choose("swiglu", gate, up).name == "kernel":
        out: Tensor = SwiGLU.apply(gate, up)  # type: ignore[no-untyped-call]
        return out
    return reference(gate, up)
