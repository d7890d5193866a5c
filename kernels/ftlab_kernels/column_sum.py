"""Sum over rows in a fixed order: what turns partial weight gradients into the gradient.

    out[c] = ((x[0, c] + x[1, c]) + x[2, c]) + ...      for each column c, in blocks of rows

The order depends on the shape alone, so the bits are the same on every run.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS, BLOCK = 256, 16  # of a tile: enough loads under way to hide where they come from


@triton.jit
def column_sum_kernel(p_x, p_out, T, H, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """One program: BLOCK columns, all rows, ROWS at a time."""
    o_col = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    for start in range(0, T, ROWS):
        o_row = start + tl.arange(0, ROWS)
        m = (o_row[:, None] < T) & (o_col[None, :] < H)
        total += tl.load(p_x + o_row.to(tl.int64)[:, None] * H + o_col[None, :], mask=m, other=0.0)
    tl.store(p_out + o_col, tl.sum(total, axis=0), mask=o_col < H)


def column_sum(x: Tensor, *, out: Tensor | None = None) -> Tensor:
    """fp32 [H] of contiguous fp32 x [T, H]."""
    T, H = x.shape
    out = torch.empty(H, dtype=torch.float32, device=x.device) if out is None else out
    column_sum_kernel[(-(-H // BLOCK),)](
        x, out, T, H, ROWS=ROWS, BLOCK=BLOCK, num_warps=4, num_stages=1
    )
    return out
