"""The gradients of LoRA from their parts: one launch for all targets, set or accumulated.

    out_g [+]= scale_g sum_s part[s, first_g : first_g + rows_g, : columns_g]

fp32, parts added from the first to the last, so that every bit repeats. Each value is read once
from each of the S parts; the loads of several parts are under way together.
"""

from collections.abc import Sequence

import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.lora_layout import TARGETS, padded, runs_here

BLOCK = 512  # values of a program: 16 bytes a thread and part
UNROLL = 8  # parts that are loaded together


@triton.jit
def _sum_run(
    p_part, p_out, first, rows, columns, scale, S, s_part, COLUMNS,
    ACCUMULATE: tl.constexpr, UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK values of one gradient [rows, columns]; p_part [S, ROWS, COLUMNS]."""
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    m = o < rows * columns
    p_parts = p_part + (first + o // columns).to(tl.int64) * COLUMNS + o % columns
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for s in range(0, S, UNROLL):
        for i in tl.static_range(UNROLL):
            total += tl.load(p_parts, mask=m & (s + i < S), other=0.0)
            p_parts += s_part
    total *= scale
    if ACCUMULATE:
        total += tl.load(p_out + o, mask=m, other=0.0)
    tl.store(p_out + o, total, mask=m)


@triton.jit
def _sum_kernel(
    p_part, p_out0, p_out1, p_out2, S, s_part, COLUMNS, first0, first1, first2,
    rows0, rows1, rows2, columns0, columns1, columns2, scale0, scale1, scale2,
    ACCUMULATE: tl.constexpr, TARGETS: tl.constexpr, UNROLL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Axis 0: blocks of a gradient; axis 1: targets."""
    i_c = tl.program_id(1)
    for i in tl.static_range(TARGETS):
        if i == 0:
            p_out, first, rows, columns, scale = p_out0, first0, rows0, columns0, scale0
        elif i == 1:
            p_out, first, rows, columns, scale = p_out1, first1, rows1, columns1, scale1
        else:
            p_out, first, rows, columns, scale = p_out2, first2, rows2, columns2, scale2
        if i_c == i:
            _sum_run(
                p_part, p_out, first, rows, columns, scale, S, s_part, COLUMNS,
                ACCUMULATE, UNROLL, BLOCK,
            )  # fmt: skip


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
    grid = (triton.cdiv(max(grad.numel() for grad in grads), BLOCK), len(grads))
    _sum_kernel[grid](
        part, *grads, *[grads[0]] * (TARGETS - len(grads)),
        part.shape[0], part.stride(0), part.shape[2], *padded([first for _, first, _ in wanted]),
        *padded([grad.shape[0] for grad in grads]), *padded([grad.shape[1] for grad in grads]),
        *padded([scale for _, _, scale in wanted], 0.0),
        ACCUMULATE=accumulate, TARGETS=len(grads), UNROLL=UNROLL, BLOCK=BLOCK, num_warps=4,
    )  # fmt: skip
