"""The products of LoRA that read dy: v = s dy B and dB, both in one pass over dy.

    v[t] = sum_n dy[t, n] sB[n]           [T, P], rounded to dy's dtype
    dB[n] = s sum_t dy[t, n] u[t]         [N, r], fp32

A program owns a range of tokens and a range of features of one target. It adds up v of its
features over a loop and dB of its tokens in its own part of a buffer; parts are summed in order
by `lora_sum`, so that every bit repeats.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.dispatch import multiplies
from ftlab_kernels.lora_layout import PAD, TARGETS, UNIT, Columns, padded, precision
from ftlab_kernels.reference import lora_products as reference
from ftlab_kernels.tuning import capability, lookup, pow2_class

PROGRAMS = 1024  # of a launch, at least, where the tokens allow it
FEWEST = 8  # parts of dB


@triton.jit
def _up_kernel(
    p_dy, p_b, p_u, p_v, p_db, T, N, s_dy, s_b, s_u, R, tokens,
    row0, row1, row2, row3, split1, split2, first0, first1, first2, last0, last1, last2,
    FEATURES: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Axis 0: tokens; axis 1: FEATURES features of one target; axis 2: BLOCK_R of its columns.

    p_v fp32 [splits of N, T, R], p_db fp32 [splits of T, N, R].
    """
    i_t, i_n = tl.program_id(0).to(tl.int64), tl.program_id(1)
    in1, in2 = i_n >= split1, i_n >= split2
    n_first = tl.where(in2, row2, tl.where(in1, row1, row0))
    n_last = tl.where(in2, row3, tl.where(in1, row2, row1))
    n_first += (i_n - tl.where(in2, split2, tl.where(in1, split1, 0))) * FEATURES
    first = tl.where(in2, first2, tl.where(in1, first1, first0))
    last = tl.where(in2, last2, tl.where(in1, last1, last0))
    o_r = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)
    m_r = o_r < last - first
    for t in range(0, tokens, BLOCK_T):
        o_t = i_t * tokens + t + tl.arange(0, BLOCK_T)
        m_t = o_t < T
        p_us = p_u + o_t[:, None] * s_u + (first + o_r)[None, :]
        u = tl.load(p_us, mask=m_t[:, None] & m_r[None, :], other=0.0)
        v = tl.zeros((BLOCK_T, BLOCK_R), dtype=tl.float32)
        if t > 0:
            tl.debug_barrier()  # what other threads of this program stored is read below
        for n in range(0, FEATURES, BLOCK_N):
            o_n = (n_first + n + tl.arange(0, BLOCK_N)).to(tl.int64)
            m_n = o_n < n_last
            p_dys = p_dy + o_t[:, None] * s_dy + o_n[None, :]
            dy = tl.load(p_dys, mask=m_t[:, None] & m_n[None, :], other=0.0)
            p_bs = p_b + o_n[:, None] * s_b + (first + o_r)[None, :]
            m_b = m_n[:, None] & m_r[None, :]
            b = tl.load(p_bs, mask=m_b, other=0.0)
            v = tl.dot(dy, b, v, input_precision=PRECISION)
            db = tl.dot(tl.trans(dy), u, input_precision=PRECISION)
            p_dbs = p_db + (i_t * N + o_n)[:, None] * R + o_r[None, :]
            if t > 0:
                db += tl.load(p_dbs, mask=m_b, other=0.0)
            tl.store(p_dbs, db, mask=m_b)
        p_vs = p_v + (i_n.to(tl.int64) * T + o_t[:, None]) * R + o_r[None, :]
        tl.store(p_vs, v, mask=m_t[:, None] & m_r[None, :])


@triton.jit
def _sum_v_kernel(
    p_part, p_v, T, R, s_part, s_v, width, pad, split1, split2, split3,
    first0, first1, first2, last0, last1, last2,
    TARGETS: tl.constexpr, PAD: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """v = the parts of each target summed in order, into its columns; zeros beyond them all."""
    o_t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    m_t = o_t < T
    p_vs = p_v + o_t[:, None] * s_v
    for i_c in tl.static_range(TARGETS):
        if i_c == 0:
            begin, end, first, last = 0, split1, first0, last0
        elif i_c == 1:
            begin, end, first, last = split1, split2, first1, last1
        else:
            begin, end, first, last = split2, split3, first2, last2
        for r in range(0, last - first, BLOCK_R):
            o_r = r + tl.arange(0, BLOCK_R)
            m_v = m_t[:, None] & (o_r < last - first)[None, :]
            v = tl.zeros((BLOCK_T, BLOCK_R), dtype=tl.float32)
            p_parts = p_part + (begin * T + o_t[:, None]) * R + o_r[None, :]
            for _ in range(begin, end):
                v += tl.load(p_parts, mask=m_v, other=0.0)
                p_parts += s_part
            tl.store(p_vs + (first + o_r)[None, :], v.to(p_v.dtype.element_ty), mask=m_v)
    o_r = width + tl.arange(0, PAD)
    rest = tl.zeros((BLOCK_T, PAD), p_v.dtype.element_ty)
    tl.store(p_vs + o_r[None, :], rest, mask=m_t[:, None] & (o_r < pad)[None, :])


def _splits(rows: list[int], columns: Columns, features: int) -> list[int]:
    """[0, end of target 0, of 1, of 2] in numbers of splits; none where there is no adapter."""
    ends = [0]
    for i in range(TARGETS):
        count = 0
        if i < len(columns.ranks) and columns.ranks[i]:
            count = triton.cdiv(rows[i + 1] - rows[i], features)
        ends.append(ends[-1] + count)
    return ends


def up(
    dy: Tensor, b: Tensor, u: Tensor, rows: tuple[int, ...], columns: Columns, *, v: Tensor
) -> Tensor:
    """v into the caller's buffer; returns dB / s as fp32 [splits, N, R] for `lora_sum`.

    Args:
        dy: [T, N], any row stride.
        b: [N, P] in dy's dtype: s B of each target in its rows and columns.
        u: [T, P] from `lora_down.project`.
        rows: boundaries of the targets on N, from 0 to N.
        v: [T, P] in dy's dtype, any row stride. Written, zeros where no target has a column.

    R is the largest rank, rounded up to 16. Rows of the result without an adapter are not written.
    """
    if not multiplies(dy):
        return reference.up(dy, b, u, rows, columns, v)[None]
    T, N = dy.shape
    config = lookup("lora_up", pow2_class("t", T, 1024, 16384), capability(dy))
    bounds = [*rows, *[rows[-1]] * (TARGETS + 1 - len(rows))]
    splits = _splits(bounds, columns, config["FEATURES"])
    R = max(b - a for a, b in zip(columns.firsts, columns.lasts, strict=True))
    block_r = min(64, max(UNIT, triton.next_power_of_2(R)))
    wide = dy.dtype == torch.float32  # twice the bytes in shared memory
    block_t = min(config["BLOCK_T"], 64 if wide else 16384 // block_r)
    # Parts of dB are written and read again: no more of them than keep the card busy.
    parts = min(config["SPLITS"], max(FEWEST, triton.cdiv(PROGRAMS, splits[-1])))
    tokens = triton.cdiv(triton.cdiv(T, parts), block_t) * block_t
    grid = (triton.cdiv(T, tokens), splits[-1], triton.cdiv(R, block_r))
    part = torch.empty((splits[-1], T, R), dtype=torch.float32, device=dy.device)
    grad = torch.empty((grid[0], N, R), dtype=torch.float32, device=dy.device)
    places = [*padded(columns.firsts), *padded(columns.lasts)]
    _up_kernel[grid](
        dy, b, u, part, grad, T, N, dy.stride(0), b.stride(0), u.stride(0), R, tokens,
        *bounds, splits[1], splits[2], *places,
        FEATURES=config["FEATURES"], PRECISION=precision(dy.dtype),
        BLOCK_T=block_t, BLOCK_N=config["BLOCK_N"], BLOCK_R=block_r,
        num_warps=config["num_warps"], num_stages=1 if wide else config["num_stages"],
    )  # fmt: skip
    _sum_v_kernel[(triton.cdiv(T, 32),)](
        part, v, T, R, T * R, v.stride(0), columns.width, columns.pad, *splits[1:], *places,
        TARGETS=len(columns.ranks), PAD=PAD, BLOCK_T=32, BLOCK_R=block_r, num_warps=4,
    )  # fmt: skip
    return grad
