"""Backward kernel of attention for dq: one program for each tile of queries and head.

    P = exp(s - lse), delta = rowsum(dO o), dS = P (dO v^T - delta)
    (soft-capped: dS times 1 - (s / c)^2),  dq = scale dS k

delta is made here, where dO is at hand, and kept for the other kernel.
"""

import triton
import triton.language as tl

from ftlab_kernels.attention_tile import LOG2E, load_rows, product, rows_of, scores, tanh, visible

# One line an argument would hide the kernel's order.
# fmt: off


@triton.jit
def _query_step(dq, q, d_out, lse, delta, x_k, x_v, i_row, i_end, i_head, o_query, i_key,
                s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D: tl.constexpr,
                WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, MASK: tl.constexpr, TMA: tl.constexpr,
                PRECISION: tl.constexpr):
    """Add the keys of one block to dq / scale. lse is in powers of two."""
    k = load_rows(x_k, i_row, i_end, i_head, s_kt, s_kh, o_n, o_d, D, TMA, not MASK)
    v = load_rows(x_v, i_row, i_end, i_head, s_vt, s_vh, o_n, o_d, D, TMA, not MASK)
    s = scores(q, k, PRECISION)
    dp = scores(d_out, v, PRECISION)
    if SOFTCAP:
        t = tanh(s * (scale / softcap))
        p = tl.exp2(t * (softcap * LOG2E) - lse[:, None])
    else:
        p = tl.exp2(s * (scale * LOG2E) - lse[:, None])
    if MASK or WINDOW > 0:
        o_key, o_row = (i_key + o_n)[None, :], (i_row + o_n)[None, :]
        seen = visible(o_query[:, None], o_key, o_row, i_end, WINDOW)
        p = tl.where(seen, p, 0.0)
    ds = p * (dp - delta[:, None])
    if SOFTCAP:
        ds = ds * (1.0 - t * t)
    return product(ds.to(k.dtype), k, dq, PRECISION)


@triton.jit
def query_kernel(
    p_q, p_k, p_v, p_o, p_do, p_lse, p_delta, p_dq, p_tiles, p_order,
    s_qt, s_qh, s_kt, s_kh, s_vt, s_vh, s_ot, s_oh, s_dot, s_doh, s_dqt, s_dqh,
    T, scale, softcap, H: tl.constexpr, GROUP: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, PREFIX: tl.constexpr, TMA: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq and delta of one tile of queries of one head."""
    i_program = tl.load(p_order + tl.program_id(0))
    i_head = i_program % H
    p_tile = p_tiles + i_program // H * 8
    i_first = tl.load(p_tile)
    if i_first < 0:
        return
    i_start, i_end = tl.load(p_tile + 1), tl.load(p_tile + 2)
    i_kv = i_head // GROUP
    o_m, o_n, o_d = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    m_m = i_first + o_m < i_end
    d_out = load_rows(p_do, i_first, i_end, i_head, s_dot, s_doh, o_m, o_d, D, False, False)
    out = load_rows(p_o, i_first, i_end, i_head, s_ot, s_oh, o_m, o_d, D, False, False)
    delta = tl.sum(out.to(tl.float32) * d_out.to(tl.float32), 1)
    p_row = i_head.to(tl.int64) * T + i_first + o_m
    tl.store(p_delta + p_row, delta, mask=m_m)
    lse = tl.load(p_lse + p_row, mask=m_m, other=float("inf")) * LOG2E
    q = load_rows(p_q, i_first, i_end, i_head, s_qt, s_qh, o_m, o_d, D, False, False)
    x_k = rows_of(p_k, s_kt, s_kh, T, H // GROUP, BLOCK_D, BLOCK_N, TMA)
    x_v = rows_of(p_v, s_vt, s_vh, T, H // GROUP, BLOCK_D, BLOCK_N, TMA)
    dq = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    i_before = 0
    if PREFIX:
        i_before = tl.load(p_tile + 4)
    i_query = i_before + i_first - i_start
    o_query = i_query + o_m
    if PREFIX:
        i_prefix = tl.load(p_tile + 3)
        i_low = 0
        if WINDOW > 0:
            i_low = tl.maximum(i_query - WINDOW + 1, 0) // BLOCK_N * BLOCK_N
        i_whole = tl.maximum(i_before // BLOCK_N * BLOCK_N, i_low)
        for i in range(i_low, i_whole, BLOCK_N):
            dq = _query_step(
                dq, q, d_out, lse, delta, x_k, x_v, i_prefix + i, i_prefix + i_before, i_kv,
                o_query, i, s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP,
                False, TMA, PRECISION)
        for i in range(i_whole, i_before, BLOCK_N):
            dq = _query_step(
                dq, q, d_out, lse, delta, x_k, x_v, i_prefix + i, i_prefix + i_before, i_kv,
                o_query, i, s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP,
                True, TMA, PRECISION)
    i_low = 0
    if WINDOW > 0:
        i_low = tl.maximum(i_first - i_start - WINDOW + 1, 0) // BLOCK_N * BLOCK_N
    i_whole = tl.maximum((i_first - i_start) // BLOCK_N * BLOCK_N, i_low)
    for i in range(i_low, i_whole, BLOCK_N):
        dq = _query_step(
            dq, q, d_out, lse, delta, x_k, x_v, i_start + i, i_end, i_kv, o_query, i_before + i,
            s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP, False, TMA,
            PRECISION)
    i_last = tl.minimum(i_first + BLOCK_M, i_end) - i_start
    for i in range(i_whole, i_last, BLOCK_N):
        dq = _query_step(
            dq, q, d_out, lse, delta, x_k, x_v, i_start + i, i_end, i_kv, o_query, i_before + i,
            s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP, True, TMA,
            PRECISION)
    p_out = p_dq + i_first.to(tl.int64) * s_dqt + i_head.to(tl.int64) * s_dqh
    tl.store(p_out + o_m[:, None] * s_dqt + o_d[None, :], (dq * scale).to(p_dq.dtype.element_ty),
             mask=m_m[:, None] & (o_d[None, :] < D))
