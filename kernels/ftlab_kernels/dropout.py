"""Dropout as an operator of its own, for products that no kernel of ours masks: one launch.

    y[e] = x[e] / (1 - p) where uniform(seed, e) >= p, else 0          e: flat index of x

The key lies on the device, so nothing waits for it. Bits are those of `reference.dropout`. Reads x
and writes y once; the backward is the same with y's gradient for x. Srivastava et al. 2014.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.lora_layout import runs_here
from ftlab_kernels.philox import keep_mask
from ftlab_kernels.reference.dropout import dropout as reference
from ftlab_kernels.rows import row_stride


@triton.jit
def dropout_kernel(p_x, p_y, p_seed, K, stride_x, stride_y, p, gain, BLOCK: tl.constexpr):
    """One program: BLOCK columns of a row."""
    i_row = tl.program_id(0).to(tl.int64)
    o_col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    m = o_col < K
    x = tl.load(p_x + i_row * stride_x + o_col, mask=m, other=0.0).to(tl.float32)
    kept = keep_mask(tl.load(p_seed), i_row * K + o_col, p)
    y = tl.where(kept, x * gain, 0.0).to(p_y.dtype.element_ty)
    tl.store(p_y + i_row * stride_y + o_col, y, mask=m)


def dropout(x: Tensor, p: float, seed: Tensor, *, out: Tensor | None = None) -> Tensor:
    """y [T, K] in x's dtype.

    Args:
        x: [T, K], fp32, bf16 or fp16, any row stride.
        p: share that is zeroed, 0 <= p < 1.
        seed: int64 scalar on x's device, the key of this call site and step.
        out: [T, K], any row stride; may be x.
    """
    if not runs_here(x):
        y = reference(x, p, int(seed))
        return y if out is None else out.copy_(y)
    T, K = x.shape
    out = torch.empty((T, K), dtype=x.dtype, device=x.device) if out is None else out
    dropout_kernel[(T, triton.cdiv(K, 1024))](
        x, out, seed, K, row_stride(x), row_stride(out), p, 1 / (1 - p), BLOCK=1024, num_warps=4
    )
    return out
