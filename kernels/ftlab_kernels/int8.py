"""int8 weights in Triton: w[n, k] = q[n, k] (absmax[n] / 127), one scale a row, rounded once."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.int8 import Int8Weight
from ftlab_kernels.rows import row_stride

__all__ = ["Int8Weight", "dequantize_int8", "int8_dequantize"]


@triton.jit
def int8_dequantize_kernel(
    p_values, p_absmax, p_out, N, K, stride_values, stride_out,
    ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows, BLOCK columns."""
    o_row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    o_col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)[None, :]
    m = (o_row < N) & (o_col < K)
    values = tl.load(p_values + o_row * stride_values + o_col, mask=m, other=0).to(tl.float32)
    absmax = tl.load(p_absmax + o_row, mask=o_row < N, other=0.0)
    scale = tl.math.div_rn(absmax, tl.full(absmax.shape, 127.0, tl.float32))
    out = (values * scale).to(p_out.dtype.element_ty)
    tl.store(p_out + o_row * stride_out + o_col, out, mask=m)


def int8_dequantize(weight: Int8Weight, *, out: Tensor) -> Tensor:
    """Write the weight into `out` [N, K], fp32, bf16 or fp16; its rows may be strided."""
    N, K = out.shape
    config = tuning.lookup("int8", f"out_{out.element_size()}", tuning.capability(out))
    int8_dequantize_kernel[(-(-N // config["ROWS"]), -(-K // config["BLOCK"]))](
        weight.values,
        weight.absmax,
        out,
        N,
        K,
        row_stride(weight.values),
        row_stride(out),
        **config,
    )
    return out


def dequantize_int8(weight: Int8Weight, dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
    """The weight [N, K] in `dtype`, into `out` (last axis contiguous) where given."""
    if out is None:
        out = torch.empty(weight.values.shape, dtype=dtype, device=weight.values.device)
    if out.dtype != dtype or out.shape != weight.values.shape:
        shape = tuple(weight.values.shape)
        raise ValueError(f"out is {tuple(out.shape)} {out.dtype}, not {shape} {dtype}")
    unless = None if weight.values.stride(1) == 1 else "the values' rows are not contiguous"
    if choose("dequantize_int8", weight.values, weight.absmax, out, unless=unless).name == "kernel":
        return int8_dequantize(weight, out=out)
    return out.copy_(weight.dequantise(dtype))
