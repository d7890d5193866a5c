"""RMSNorm in Triton, forward and backward, with the residual addition inside.

    forward    h = x + residual,  r = 1 / sqrt(mean(h^2) + eps),  y = h r w,  w = offset + weight
    backward   dx = r (w dy - h r mean(w dy h r)) + grad_residual,
               dweight = sum over rows of dy h r

Statistics in fp32; h and y are rounded as the reference rounds them, within 2 ulp of fp64. dweight
is fp32, summed in an order that shapes alone fix: runs of rows, then programs. Bytes moved in 16
bits: 4 T H forward (8 T H with a residual), 6 T H backward (8 T H); each value once.
Saved for backward: h [T, H], and r [T] in fp32. Zhang and Sennrich 2019.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.column_sum import column_sum
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.rms_norm import rms_norm as reference
from ftlab_kernels.rows import row_stride, rows_2d

WIDEST = 65536  # a row is held in registers
PARTIALS = 528  # at most: programs that sum weight gradients, four a multiprocessor on an H100


@triton.jit
def rms_norm_forward_kernel(
    p_x, p_residual, p_weight, p_y, p_h, p_rstd, T, stride_x, stride_residual, stride_y, stride_h,
    eps, OFFSET: tl.constexpr, WEIGHT_FP32: tl.constexpr, RESIDUAL: tl.constexpr,
    H: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: ROWS whole rows."""
    dtype = p_y.dtype.element_ty
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    o_col = tl.arange(0, BLOCK)[None, :]
    m = (o_row[:, None] < T) & (o_col < H)
    h = tl.load(p_x + o_row[:, None] * stride_x + o_col, mask=m, other=0.0).to(tl.float32)
    if RESIDUAL:
        p_row = p_residual + o_row[:, None] * stride_residual + o_col
        h = (h + tl.load(p_row, mask=m, other=0.0).to(tl.float32)).to(dtype)
        tl.store(p_h + o_row[:, None] * stride_h + o_col, h, mask=m)
        h = h.to(tl.float32)
    rstd = tl.rsqrt(tl.sum(h * h, axis=1) / H + eps)
    tl.store(p_rstd + o_row, rstd, mask=o_row < T)
    weight = tl.load(p_weight + o_col, mask=o_col < H, other=0.0)
    normed = h * rstd[:, None]
    if WEIGHT_FP32:
        y = normed * (weight.to(tl.float32) + OFFSET)
    else:
        scale = weight.to(dtype)
        if OFFSET != 0.0:
            scale = (scale.to(tl.float32) + OFFSET).to(dtype)
        y = normed.to(dtype).to(tl.float32) * scale.to(tl.float32)
    tl.store(p_y + o_row[:, None] * stride_y + o_col, y.to(dtype), mask=m)


@triton.jit
def rms_norm_backward_kernel(
    p_grad, p_h, p_weight, p_rstd, p_grad_residual, p_dx, p_partial, T, CHUNK,
    stride_grad, stride_h, stride_grad_residual, stride_dx,
    OFFSET: tl.constexpr, WEIGHT_FP32: tl.constexpr, RESIDUAL: tl.constexpr,
    WEIGHT_GRAD: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: CHUNK rows, ROWS at a time; one row of the partial sums of dweight."""
    i_program = tl.program_id(0).to(tl.int64)
    dtype = p_dx.dtype.element_ty
    o_col = tl.arange(0, BLOCK)[None, :]
    if WEIGHT_GRAD:
        total = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, CHUNK, ROWS):
        o_row = i_program * CHUNK + start + tl.arange(0, ROWS)
        m = (o_row[:, None] < T) & (o_col < H)
        rstd = tl.load(p_rstd + o_row, mask=o_row < T, other=0.0)[:, None]
        h = tl.load(p_h + o_row[:, None] * stride_h + o_col, mask=m, other=0.0).to(tl.float32)
        grad = tl.load(p_grad + o_row[:, None] * stride_grad + o_col, mask=m, other=0.0)
        grad = grad.to(tl.float32)
        normed = h * rstd
        if WEIGHT_GRAD:
            total += grad * normed
        weight = tl.load(p_weight + o_col, mask=o_col < H, other=0.0)  # cached; frees registers
        if WEIGHT_FP32:
            weight = weight.to(tl.float32) + OFFSET
        else:
            weight = weight.to(dtype).to(tl.float32)
            if OFFSET != 0.0:
                weight = (weight + OFFSET).to(dtype).to(tl.float32)
        scaled = grad * weight
        dx = rstd * (scaled - normed * (tl.sum(scaled * normed, axis=1) / H)[:, None])
        if RESIDUAL:
            p_row = p_grad_residual + o_row[:, None] * stride_grad_residual + o_col
            dx += tl.load(p_row, mask=m, other=0.0).to(tl.float32)
        tl.store(p_dx + o_row[:, None] * stride_dx + o_col, dx.to(dtype), mask=m)
    if WEIGHT_GRAD:
        o_partial = i_program * H + tl.arange(0, BLOCK)
        tl.store(p_partial + o_partial, tl.sum(total, axis=0), mask=tl.arange(0, BLOCK) < H)


def rms_norm_forward(
    x: Tensor, weight: Tensor, *, eps: float, offset: float = 0.0, weight_fp32: bool = False,
    residual: Tensor | None = None, out: Tensor | None = None, residual_out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(y [T, H], h [T, H], rstd fp32 [T]) of x [T, H] (+ residual [T, H]).

    Without a residual h is x itself. `out` may be x; `residual_out`, where h is written, may be x
    or residual. Rows may be strided.
    """
    T, H = x.shape
    y = torch.empty((T, H), dtype=x.dtype, device=x.device) if out is None else out
    rstd = torch.empty(T, dtype=torch.float32, device=x.device)
    h = x
    if residual is not None:
        h = torch.empty_like(y) if residual_out is None else residual_out
    config = tuning.lookup("rms_norm", f"forward_{width(H)}", tuning.capability(x))
    rms_norm_forward_kernel[(-(-T // config["ROWS"]),)](
        x, x if residual is None else residual, weight, y, h, rstd, T,
        row_stride(x), 0 if residual is None else row_stride(residual), row_stride(y),
        row_stride(h), eps, OFFSET=float(offset), WEIGHT_FP32=weight_fp32,
        RESIDUAL=residual is not None,
        H=H, BLOCK=width(H), **config,
    )  # fmt: skip
    return y, h, rstd


def rms_norm_backward(
    grad: Tensor, h: Tensor, weight: Tensor, rstd: Tensor, *, offset: float = 0.0,
    weight_fp32: bool = False, grad_residual: Tensor | None = None, out: Tensor | None = None,
    need_weight_grad: bool = False,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """(dx [T, H], dweight fp32 [H] or None); dx is the gradient of x and of the residual alike.

    `grad_residual` [T, H], what flows into h from elsewhere, is included. `out` may be grad, h or
    grad_residual.
    """
    T, H = h.shape
    dx = torch.empty((T, H), dtype=h.dtype, device=h.device) if out is None else out
    kind = "weight" if need_weight_grad else "backward"
    config = tuning.lookup("rms_norm", f"{kind}_{width(H)}", tuning.capability(h))
    chunk = partial_chunk(T, config["ROWS"]) if need_weight_grad else config["ROWS"]
    programs = -(-T // chunk)
    partial = rstd
    if need_weight_grad:
        partial = torch.empty((programs, H), dtype=torch.float32, device=h.device)
    rms_norm_backward_kernel[(programs,)](
        grad, h, weight, rstd, h if grad_residual is None else grad_residual, dx, partial, T, chunk,
        row_stride(grad), row_stride(h), 0 if grad_residual is None else row_stride(grad_residual),
        row_stride(dx), OFFSET=float(offset), WEIGHT_FP32=weight_fp32,
        RESIDUAL=grad_residual is not None, WEIGHT_GRAD=need_weight_grad, H=H, BLOCK=width(H),
        **config,
    )  # fmt: skip
    return dx, column_sum(partial) if need_weight_grad else None


def width(H: int) -> int:
    """Columns of a program's tile: the next power of two."""
    return triton.next_power_of_2(H)  # type: ignore[no-any-return]


def partial_chunk(T: int, rows: int) -> int:
    """Rows of each program that sums weight gradients: whole tiles, at most PARTIALS programs."""
    tiles = -(-T // rows)
    return rows * max(1, -(-tiles // PARTIALS))


class RMSNorm(torch.autograd.Function):
    """Gradients by the kernel; returns y, and h where there is a residual."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, residual: Tensor | None, eps: float, offset: float,
        weight_fp32: bool,
    ) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
        """Save h and rstd."""
        flat = None if residual is None else rows_2d(residual)
        y, h, rstd = rms_norm_forward(
            rows_2d(x), weight, eps=eps, offset=offset, weight_fp32=weight_fp32, residual=flat
        )
        ctx.save_for_backward(h, weight, rstd)
        ctx.facts = {"offset": offset, "weight_fp32": weight_fp32}
        return y.view(x.shape) if residual is None else (y.view(x.shape), h.view(x.shape))

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *grad_h: Tensor) -> tuple[Tensor | None, ...]:
        """One launch, and one more to sum the weight's partials where it is trained."""
        h, weight, rstd = ctx.saved_tensors
        dx, dweight = rms_norm_backward(
            rows_2d(grad), h, weight, rstd, grad_residual=rows_2d(grad_h[0]) if grad_h else None,
            need_weight_grad=ctx.needs_input_grad[1], **ctx.facts,
        )  # fmt: skip
        dx = dx.view(grad.shape)
        dweight = None if dweight is None else dweight.to(weight.dtype)
        return dx, dweight, dx if grad_h else None, None, None, None


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, offset: float = 0.0, *, weight_fp32: bool = False,
    residual: Tensor | None = None,
) -> Any:  # fmt: skip
    """RMSNorm of `x` [..., H]; with a residual of that shape, (y, h) where h = x + residual.

    Args:
        x: fp32, bf16 or fp16; other dtypes take the reference.
        weight: [H], any floating dtype.
        eps: added to the mean square.
        offset: added to the weight (1.0 for Gemma).
        weight_fp32: multiply by the weight before rounding (Gemma) instead of after.
        residual: added to x first, the sum rounded to x's dtype.
    """
    H = x.shape[-1]
    unless = None if H <= WIDEST else f"rows of {H} are wider than {WIDEST}"
    if choose("rms_norm", x, weight, residual, unless=unless).name == "kernel":
        return RMSNorm.apply(x, weight, residual, eps, offset, weight_fp32)  # type: ignore[no-untyped-call]
    return reference(x, weight, eps, offset, weight_fp32=weight_fp32, residual=residual)
