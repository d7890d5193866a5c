"""The gradients of LoRA from their parts: fp32 sums in a fixed order, set or accumulated.

out_g [+]= scale_g sum_s part[s, rows of g, columns of g]        for every target g
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.lora_layout import padded, runs_here


@triton.jit
def _sum_kernel(
    p_part, p_out0, p_out1, p_out2, S, s_part, COLUMNS,
    row0, row1, row2, rows0, rows1, rows2, columns0, columns1, columns2, scale0, scale1, scale2,
    ACCUMULATE: tl.constexpr, TARGETS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
):  # fmt: skip
    """A tile [BLOCK_M, BLOCK_N] of each target's gradient; part [S, ROWS, COLUMNS]."""
    o_m = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    o_n = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    i_c = tl.program_id(2)
    for i in tl.static_range(TARGETS):
        if i == 0:
            p_out, row, rows, columns, scale = p_out0, row0, rows0, columns0, scale0
        elif i == 1:
            p_out, row, rows, columns, scale = p_out1, row1, rows1, columns1, scale1
        else:
            p_out, row, rows, columns, scale = p_out2, row2, rows2, columns2, scale2
        # Programs of other targets have nothing to do here.
        m_tile = ((o_m < rows)[:, None] & (o_n < columns)[None, :]) & (i_c == i)
        total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
        p_parts = p_part + (row + o_m)[:, None] * COLUMNS + o_n[None, :]
        for _ in range(S):
            total += tl.load(p_parts, mask=m_tile, other=0.0)
            p_parts += s_part
        total *= scale
        p_outs = p_out + o_m[:, None] * columns + o_n[None, :]
        if ACCUMULATE:
            total += tl.load(p_outs, mask=m_tile, other=0.0)
        tl.store(p_outs, total, mask=m_tile)


def sum_parts(
    part: Tensor,
    outs: Sequence[Tensor | None],
    firsts: Sequence[int],
    scales: Sequence[float],
    *,
    accumulate: bool,
) -> None:
    """Sum the parts of every target into its gradient.

    Args:
        part: fp32 [S, rows, columns], contiguous.
        outs: fp32 [rows_g, columns_g] of each target, contiguous; None where there is none.
        firsts: first row of each target in `part`; its columns begin at 0.
        scales: factor of each target.
        accumulate: add to what is there.
    """
    wanted = [(o, f, s) for o, f, s in zip(outs, firsts, scales, strict=True) if o is not None]
    if not runs_here(part):
        for out, first, scale in wanted:
            total = part.sum(0)[first : first + out.shape[0], : out.shape[1]] * scale
            out.copy_(out + total if accumulate else total)
        return
    grads = [out for out, _, _ in wanted]
    rows, cols = [g.shape[0] for g in grads], [g.shape[1] for g in grads]
    block_n = min(128, triton.next_power_of_2(max(cols)))
    block_m = 2048 // block_n
    grid = (triton.cdiv(max(rows), block_m), triton.cdiv(max(cols), block_n), len(grads))
    _sum_kernel[grid](
        part, *grads, *[grads[0]] * (3 - len(grads)),
        part.shape[0], part.stride(0), part.shape[2],
        *padded([first for _, first, _ in wanted]), *padded(rows), *padded(cols),
        *padded([scale for _, _, scale in wanted], 0.0),
        ACCUMULATE=accumulate, TARGETS=len(grads), BLOCK_M=block_m, BLOCK_N=block_n, num_warps=4,
    )  # fmt: skip
