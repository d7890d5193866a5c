"""LayerNorm in Triton, forward and backward, with the residual addition inside.

    forward    h = x + residual,  z = (h - mean) r,  r = 1 / sqrt(var + eps),  y = w z + b
    backward   dx = r (w dy - mean(w dy) - z mean(w dy z)) + grad_residual,
               dw = sum over rows of dy z,  db = sum over rows of dy

Statistics, products and gradients in fp32, y rounded once. dw and db are summed in an order that
shapes alone fix. Saved for backward: h, mean and r. Ba, Kiros and Hinton 2016.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.column_sum import column_sum
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.layer_norm import layer_norm as reference
from ftlab_kernels.rms_norm import WIDEST, partial_chunk, width
from ftlab_kernels.rows import row_stride, rows_2d


@triton.jit
def layer_norm_forward_kernel(
    p_x, p_residual, p_weight, p_bias, p_y, p_h, p_mean, p_rstd, T,
    stride_x, stride_residual, stride_y, stride_h, eps,
    BIAS: tl.constexpr, RESIDUAL: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
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
    mean = tl.sum(h, axis=1) / H
    centred = tl.where(o_col < H, h - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, axis=1) / H + eps)
    tl.store(p_mean + o_row, mean, mask=o_row < T)
    tl.store(p_rstd + o_row, rstd, mask=o_row < T)
    y = centred * rstd[:, None]
    y *= tl.load(p_weight + o_col, mask=o_col < H, other=0.0).to(tl.float32)
    if BIAS:
        y += tl.load(p_bias + o_col, mask=o_col < H, other=0.0).to(tl.float32)
    tl.store(p_y + o_row[:, None] * stride_y + o_col, y.to(dtype), mask=m)


@triton.jit
def layer_norm_backward_kernel(
    p_grad, p_h, p_weight, p_mean, p_rstd, p_grad_residual, p_dx, p_partial, p_partial_bias, T,
    CHUNK, stride_grad, stride_h, stride_grad_residual, stride_dx,
    RESIDUAL: tl.constexpr, WEIGHT_GRAD: tl.constexpr, H: tl.constexpr, ROWS: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: CHUNK rows, ROWS at a time; one row of the partial sums of dw and db."""
    i_program = tl.program_id(0).to(tl.int64)
    dtype = p_dx.dtype.element_ty
    o_col = tl.arange(0, BLOCK)[None, :]
    if WEIGHT_GRAD:
        total = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
        total_bias = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, CHUNK, ROWS):
        o_row = i_program * CHUNK + start + tl.arange(0, ROWS)
        m_row = o_row < T
        m = m_row[:, None] & (o_col < H)
        mean = tl.load(p_mean + o_row, mask=m_row, other=0.0)[:, None]
        rstd = tl.load(p_rstd + o_row, mask=m_row, other=0.0)[:, None]
        h = tl.load(p_h + o_row[:, None] * stride_h + o_col, mask=m, other=0.0).to(tl.float32)
        normed = tl.where(m, (h - mean) * rstd, 0.0)
        grad = tl.load(p_grad + o_row[:, None] * stride_grad + o_col, mask=m, other=0.0)
        grad = grad.to(tl.float32)
        if WEIGHT_GRAD:
            total += grad * normed
            total_bias += grad
        weight = tl.load(p_weight + o_col, mask=o_col < H, other=0.0)  # cached; frees registers
        scaled = grad * weight.to(tl.float32)
        middle = (tl.sum(scaled, axis=1) / H)[:, None]
        slope = (tl.sum(scaled * normed, axis=1) / H)[:, None]
        dx = rstd * (scaled - middle - normed * slope)
        if RESIDUAL:
            p_row = p_grad_residual + o_row[:, None] * stride_grad_residual + o_col
            dx += tl.load(p_row, mask=m, other=0.0).to(tl.float32)
        tl.store(p_dx + o_row[:, None] * stride_dx + o_col, dx.to(dtype), mask=m)
    if WEIGHT_GRAD:
        o_out = tl.arange(0, BLOCK)
        tl.store(p_partial + i_program * H + o_out, tl.sum(total, axis=0), mask=o_out < H)
        p_row = p_partial_bias + i_program * H + o_out
        tl.store(p_row, tl.sum(total_bias, axis=0), mask=o_out < H)


def layer_norm_forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, *, eps: float, residual: Tensor | None = None,
    out: Tensor | None = None, residual_out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """(y [T, H], h [T, H], mean fp32 [T], rstd fp32 [T]); outputs and aliases as of `rms_norm`."""
    T, H = x.shape
    y = torch.empty((T, H), dtype=x.dtype, device=x.device) if out is None else out
    mean, rstd = (torch.empty(T, dtype=torch.float32, device=x.device) for _ in range(2))
    h = x
    if residual is not None:
        h = torch.empty_like(y) if residual_out is None else residual_out
    config = tuning.lookup("layer_norm", f"forward_{width(H)}", tuning.capability(x))
    layer_norm_forward_kernel[(-(-T // config["ROWS"]),)](
        x, x if residual is None else residual, weight, weight if bias is None else bias, y, h,
        mean, rstd, T, row_stride(x), 0 if residual is None else row_stride(residual),
        row_stride(y), row_stride(h), eps, BIAS=bias is not None,
        RESIDUAL=residual is not None, H=H,
        BLOCK=width(H), **config,
    )  # fmt: skip
    return y, h, mean, rstd


def layer_norm_backward(
    grad: Tensor, h: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, *,
    grad_residual: Tensor | None = None, out: Tensor | None = None, need_weight_grad: bool = False,
    has_bias: bool = True,
) -> tuple[Tensor, Tensor | None, Tensor | None]:  # fmt: skip
    """(dx [T, H], dweight fp32 [H], dbias fp32 [H]); the last two None where not asked for.

    dx includes `grad_residual`; `out` may be grad, h or grad_residual.
    """
    T, H = h.shape
    dx = torch.empty((T, H), dtype=h.dtype, device=h.device) if out is None else out
    kind = "weight" if need_weight_grad else "backward"
    config = tuning.lookup("layer_norm", f"{kind}_{width(H)}", tuning.capability(h))
    chunk = partial_chunk(T, config["ROWS"]) if need_weight_grad else config["ROWS"]
    programs = -(-T // chunk)
    sums = [rstd, rstd]
    if need_weight_grad:
        shape = (programs, H)
        sums = [torch.empty(shape, dtype=torch.float32, device=h.device) for _ in range(2)]
    layer_norm_backward_kernel[(programs,)](
        grad, h, weight, mean, rstd, h if grad_residual is None else grad_residual, dx, *sums, T,
        chunk, row_stride(grad), row_stride(h),
        0 if grad_residual is None else row_stride(grad_residual), row_stride(dx),
        RESIDUAL=grad_residual is not None, WEIGHT_GRAD=need_weight_grad, H=H, BLOCK=width(H),
        **config,
    )  # fmt: skip
    if not need_weight_grad:
        return dx, None, None
    return dx, column_sum(sums[0]), column_sum(sums[1]) if has_bias else None


class LayerNorm(torch.autograd.Function):
    """Gradients by the kernel; returns y, and h where there is a residual."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        residual: Tensor | None,
        eps: float,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Save h, mean and rstd."""
        flat = None if residual is None else rows_2d(residual)
        y, h, mean, rstd = layer_norm_forward(rows_2d(x), weight, bias, eps=eps, residual=flat)
        ctx.save_for_backward(h, weight, mean, rstd)
        ctx.bias_dtype = None if bias is None else bias.dtype
        return y.view(x.shape) if residual is None else (y.view(x.shape), h.view(x.shape))

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *grad_h: Tensor) -> tuple[Tensor | None, ...]:
        """One launch, and one more for each sum of weight gradients."""
        h, weight, mean, rstd = ctx.saved_tensors
        dx, dweight, dbias = layer_norm_backward(
            rows_2d(grad), h, weight, mean, rstd,
            grad_residual=rows_2d(grad_h[0]) if grad_h else None,
            need_weight_grad=ctx.needs_input_grad[1] or ctx.needs_input_grad[2],
            has_bias=ctx.bias_dtype is not None,
        )  # fmt: skip
        dx = dx.view(grad.shape)
        dweight = None if dweight is None else dweight.to(weight.dtype)
        dbias = None if dbias is None else dbias.to(ctx.bias_dtype)
        return dx, dweight, dbias, dx if grad_h else None, None


def layer_norm(
    x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, residual: Tensor | None = None
) -> Any:
    """LayerNorm of `x` [..., H]; with a residual of that shape, (y, h) where h = x + residual."""
    H = x.shape[-1]
    unless = None if H <= WIDEST else f"rows of {H} are wider than {WIDEST}"
    if choose("layer_norm", x, weight, bias, residual, unless=unless).name == "kernel":
        return LayerNorm.apply(x, weight, bias, residual, eps)  # type: ignore[no-untyped-call]
    if residual is None:
        return reference(x, weight, bias, eps)
    h = x + residual
    return reference(h, weight, bias, eps), h
