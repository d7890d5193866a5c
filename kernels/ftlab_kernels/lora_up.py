"""The products of LoRA that read dy: v = s dy B and dB, both in one pass over dy.

    v[t] = sum_n dy[t, n] sB[n]           [T, P], rounded to dy's dtype
    dB[n] = s sum_t dy[t, n] u[t]         [N, r], fp32

A program owns a range of tokens and FEATURES features of one target. It walks its tokens with B and
the sum for dB in registers, and writes v's part of its features as it goes; parts of v and of dB
are summed in order afterwards, so that every bit repeats.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.dispatch import multiplies
from ftlab_kernels.lora_layout import PAD, TARGETS, UNIT, Columns, padded, precision
from ftlab_kernels.reference import lora_products as reference
from ftlab_kernels.tuning import capability, lookup, pow2_class

UNROLL = 8  # parts of v that are loaded together


@triton.jit
def _up_kernel(
    p_dy, p_b, p_u, p_v, p_db, T, N, s_dy, s_b, s_u, R, tokens,
    row0, row1, row2, row3, split1, split2, first0, first1, first2, last0, last1, last2,
    FEATURES: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_T: tl.constexpr, BLOCK_R: tl.constexpr,
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
    o_n = (n_first + tl.arange(0, FEATURES)).to(tl.int64)
    m_n = o_n < n_last
    m_b = m_n[:, None] & m_r[None, :]
    b = tl.load(p_b + o_n[:, None] * s_b + (first + o_r)[None, :], mask=m_b, other=0.0)
    db = tl.zeros((FEATURES, BLOCK_R), dtype=tl.float32)
    for t in range(0, tokens, BLOCK_T):
        o_t = i_t * tokens + t + tl.arange(0, BLOCK_T)
        m_t = o_t < T
        p_dys = p_dy + o_t[:, None] * s_dy + o_n[None, :]
        dy = tl.load(p_dys, mask=m_t[:, None] & m_n[None, :], other=0.0)
        m_u = m_t[:, None] & m_r[None, :]
        u = tl.load(p_u + o_t[:, None] * s_u + (first + o_r)[None, :], mask=m_u, other=0.0)
        v = tl.dot(dy, b, input_precision=PRECISION)
        db = tl.dot(tl.trans(dy), u, db, input_precision=PRECISION)
        p_vs = p_v + (i_n.to(tl.int64) * T + o_t[:, None]) * R + o_r[None, :]
        tl.store(p_vs, v, mask=m_u)
    tl.store(p_db + (i_t * N + o_n)[:, None] * R + o_r[None, :], db, mask=m_b)


@triton.jit
def _sum_v_kernel(
    p_part, p_v, T, R, s_part, s_v, width, pad, split1, split2, split3,
    first0, first1, first2, last0, last1, last2,
    PAD: tl.constexpr, UNROLL: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """v = the parts of a target (axis 1) summed in order; zeros beyond all targets' columns.

    Axis 0: tokens; axis 2: BLOCK_R columns.
    """
    o_t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    in1, in2 = tl.program_id(1) >= 1, tl.program_id(1) >= 2
    begin = tl.where(in2, split2, tl.where(in1, split1, 0))
    end = tl.where(in2, split3, tl.where(in1, split2, split1))
    first = tl.where(in2, first2, tl.where(in1, first1, first0))
    last = tl.where(in2, last2, tl.where(in1, last1, last0))
    o_r = tl.program_id(2) * BLOCK_R + tl.arange(0, BLOCK_R)
    m_t = o_t < T
    m_v = m_t[:, None] & (o_r < last - first)[None, :]
    v = tl.zeros((BLOCK_T, BLOCK_R), dtype=tl.float32)
    p_parts = p_part + (begin.to(tl.int64) * T + o_t[:, None]) * R + o_r[None, :]
    for s in range(begin, end, UNROLL):
        for i in tl.static_range(UNROLL):
            v += tl.load(p_parts, mask=m_v & (s + i < end), other=0.0)
            p_parts += s_part
    p_vs = p_v + o_t[:, None] * s_v
    tl.store(p_vs + (first + o_r)[None, :], v.to(p_v.dtype.element_ty), mask=m_v)
    if tl.program_id(1) + tl.program_id(2) == 0:
        o_rest = width + tl.arange(0, PAD)
        rest = tl.zeros((BLOCK_T, PAD), p_v.dtype.element_ty)
        tl.store(p_vs + o_rest[None, :], rest, mask=m_t[:, None] & (o_rest < pad)[None, :])


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
    R = max(b - a for a, b in zip(columns.firsts, columns.lasts, strict=True))
    config = _config(dy, R)
    programs, features, block_r = (config.pop(name) for name in ("PROGRAMS", "FEATURES", "BLOCK_R"))
    bounds = [*rows, *[rows[-1]] * (TARGETS + 1 - len(rows))]
    splits = _splits(bounds, columns, features)
    # Parts of dB are written and read again: no more of them than keep the card busy.
    parts = max(1, programs // splits[-1])
    tokens = triton.cdiv(triton.cdiv(T, parts), config["BLOCK_T"]) * config["BLOCK_T"]
    grid = (triton.cdiv(T, tokens), splits[-1], triton.cdiv(R, block_r))
    part = torch.empty((splits[-1], T, R), dtype=torch.float32, device=dy.device)
    grad = torch.empty((grid[0], N, R), dtype=torch.float32, device=dy.device)
    places = [*padded(columns.firsts), *padded(columns.lasts)]
    _up_kernel[grid](
        dy, b, u, part, grad, T, N, dy.stride(0), b.stride(0), u.stride(0), R, tokens,
        *bounds, splits[1], splits[2], *places,
        FEATURES=features, PRECISION=precision(dy.dtype), BLOCK_R=block_r, **config,
    )  # fmt: skip
    _sum_v_kernel[(triton.cdiv(T, 32), len(columns.ranks), grid[2])](
        part, v, T, R, T * R, v.stride(0), columns.width, columns.pad, *splits[1:], *places,
        PAD=PAD, UNROLL=UNROLL, BLOCK_T=32, BLOCK_R=block_r, num_warps=4,
    )  # fmt: skip
    return grad


def _config(dy: Tensor, R: int) -> dict[str, int]:
    """Block sizes for R columns a target; wide ranks and fp32 take more shared memory a token."""
    config = dict(lookup("lora_up", pow2_class("t", len(dy), 1024, 16384), capability(dy)))
    config["BLOCK_R"] = min(64, max(UNIT, triton.next_power_of_2(R)))
    if config["BLOCK_R"] > UNIT:
        config["num_stages"] = min(config["num_stages"], 2)
    if dy.dtype == torch.float32:
        config |= {"BLOCK_T": max(16, config["BLOCK_T"] // 2), "FEATURES": config["FEATURES"] // 4}
        config["num_stages"] = 1
    return config
