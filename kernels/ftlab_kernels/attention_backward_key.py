"""Backward kernel of attention for dk and dv: one program for each tile of keys and key head.

    P = exp(s - lse), dS = P (dO v^T - delta)  (soft-capped: times 1 - (s/c)^2)
    dk = scale dS^T q,  dv = P^T dO

The query heads of a group, then their blocks of queries, are added in one fixed order. Where key
heads are few, a program takes one query head, and `attention_heads` adds the parts of a group.
"""

import triton
import triton.language as tl

from ftlab_kernels.attention_tile import LOG2E, load_rows, product, rows_of, scores, tanh, visible

# One line an argument would hide the kernel's order.
# fmt: off


@triton.jit
def _key_step(dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_end, i_head, o_query, o_key,
              o_key_row, i_key_end, s_qt, s_qh, s_dot, s_doh, T, scale, softcap, o_m, o_d,
              D: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, MASK: tl.constexpr,
              TMA: tl.constexpr, EARLY: tl.constexpr, PRECISION: tl.constexpr):
    """Add the queries of one block of one head to dk / scale and dv. Tiles are [keys, queries]."""
    p_row = i_head.to(tl.int64) * T + i_row + o_m
    m_m = i_row + o_m < i_end
    q = load_rows(x_q, i_row, i_end, i_head, s_qt, s_qh, o_m, o_d, D, TMA, False)
    d_out = load_rows(x_do, i_row, i_end, i_head, s_dot, s_doh, o_m, o_d, D, TMA, False)
    # Rows from i_end on get exp2(s - inf) = 0, so their values do not matter.
    lse = tl.load(p_lse + p_row, mask=m_m, other=float("inf")) * LOG2E
    delta = tl.load(p_delta + p_row, mask=m_m, other=0.0)
    s = scores(k, q, PRECISION)
    if EARLY:  # then the product for dv is under way while dS is made; takes more registers
        dp = scores(v, d_out, PRECISION)
    if SOFTCAP:
        t = tanh(s * (scale / softcap))
        p = tl.exp2(t * (softcap * LOG2E) - lse[None, :])
    else:
        p = tl.exp2(s * (scale * LOG2E) - lse[None, :])
    if MASK or WINDOW > 0:
        seen = visible(o_query[None, :], o_key[:, None], o_key_row[:, None], i_key_end, WINDOW)
        p = tl.where(seen, p, 0.0)
    dv = product(p.to(d_out.dtype), d_out, dv, PRECISION)
    if not EARLY:
        dp = scores(v, d_out, PRECISION)
    ds = p * (dp - delta[None, :])
    if SOFTCAP:
        ds = ds * (1.0 - t * t)
    dk = product(ds.to(q.dtype), q, dk, PRECISION)
    return dk, dv


@triton.jit
def key_kernel(
    p_q, p_k, p_v, p_do, p_lse, p_delta, p_dk, p_dv, p_tiles, p_order, p_positions,
    s_qt, s_qh, s_kt, s_kh, s_vt, s_vh, s_dot, s_doh, s_dkt, s_dkh, s_dvt, s_dvh,
    T, scale, softcap, H: tl.constexpr,
    GROUP: tl.constexpr, HEADS: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    PREFIX: tl.constexpr, TMA: tl.constexpr, EARLY: tl.constexpr, PRECISION: tl.constexpr,
):
    """dk and dv of one tile of keys and one key head, or the part that HEADS query heads make."""
    PARTS: tl.constexpr = H // HEADS
    i_program = tl.load(p_order + tl.program_id(0))
    i_part = i_program % PARTS
    i_kv, i_query = i_part * HEADS // GROUP, i_part * HEADS
    p_tile = p_tiles + i_program // PARTS * 8
    i_first = tl.load(p_tile)
    if i_first < 0:
        return
    i_start, i_end = tl.load(p_tile + 1), tl.load(p_tile + 2)
    o_m, o_n, o_d = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    k = load_rows(p_k, i_first, i_end, i_kv, s_kt, s_kh, o_n, o_d, D, False, False)
    v = load_rows(p_v, i_first, i_end, i_kv, s_vt, s_vh, o_n, o_d, D, False, False)
    x_q = rows_of(p_q, s_qt, s_qh, T, H, BLOCK_D, BLOCK_M, TMA)
    x_do = rows_of(p_do, s_dot, s_doh, T, H, BLOCK_D, BLOCK_M, TMA)
    dk = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    dv = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    i_before = 0
    if PREFIX:
        i_before = tl.load(p_tile + 4)
    o_row = i_first + o_n
    o_key = i_before + (o_row - i_start)
    # Queries from the last block to the first, each with all heads of the part: tiles of keys that
    # run at the same time ask for the same queries, and the L2 cache reads them once.
    if PREFIX:
        i_from, i_to, i_shared = tl.load(p_tile + 5), tl.load(p_tile + 6), tl.load(p_tile + 7)
        n_readers = tl.cdiv(i_to - i_from, BLOCK_M)
        for i in range(0, n_readers * HEADS):
            i_head = i_query + i % HEADS
            i_row = i_from + (n_readers - 1 - i // HEADS) * BLOCK_M
            # Every reader lies behind the whole prompt; a window needs to know how far.
            o_query = i_shared + o_m
            if WINDOW > 0:
                o_query = tl.load(p_positions + i_row + o_m, mask=i_row + o_m < i_to, other=0)
            dk, dv = _key_step(
                dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_to, i_head, o_query, o_key,
                o_row, i_shared, s_qt, s_qh, s_dot, s_doh, T, scale, softcap, o_m, o_d, D, WINDOW,
                SOFTCAP, True, TMA, EARLY, PRECISION)
    i_low = i_start + (i_first - i_start) // BLOCK_M * BLOCK_M
    i_high = i_end
    if WINDOW > 0:
        i_high = tl.minimum(i_end, i_first + BLOCK_N - 1 + WINDOW)
    i_behind = i_low + tl.cdiv(i_first + BLOCK_N - i_low, BLOCK_M) * BLOCK_M
    i_behind = tl.minimum(i_behind, i_high)
    n_behind = tl.cdiv(i_high - i_behind, BLOCK_M)
    for i in range(0, n_behind * HEADS):
        i_head, i_row = i_query + i % HEADS, i_behind + (n_behind - 1 - i // HEADS) * BLOCK_M
        dk, dv = _key_step(
            dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_end, i_head,
            i_before + (i_row - i_start) + o_m, o_key, o_row, i_end, s_qt, s_qh, s_dot, s_doh, T,
            scale, softcap, o_m, o_d, D, WINDOW, SOFTCAP, False, TMA, EARLY, PRECISION)
    n_diagonal = tl.cdiv(i_behind - i_low, BLOCK_M)
    for i in range(0, n_diagonal * HEADS):
        i_head, i_row = i_query + i % HEADS, i_low + (n_diagonal - 1 - i // HEADS) * BLOCK_M
        dk, dv = _key_step(
            dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_end, i_head,
            i_before + (i_row - i_start) + o_m, o_key, o_row, i_end, s_qt, s_qh, s_dot, s_doh, T,
            scale, softcap, o_m, o_d, D, WINDOW, SOFTCAP, True, TMA, EARLY, PRECISION)
    m_out = (o_row < i_end)[:, None] & (o_d[None, :] < D)
    p_out = p_dk + i_first.to(tl.int64) * s_dkt + i_part.to(tl.int64) * s_dkh
    dk = (dk * scale).to(p_dk.dtype.element_ty)
    tl.store(p_out + o_n[:, None] * s_dkt + o_d[None, :], dk, mask=m_out)
    p_out = p_dv + i_first.to(tl.int64) * s_dvt + i_part.to(tl.int64) * s_dvh
    dv = dv.to(p_dv.dtype.element_ty)
    tl.store(p_out + o_n[:, None] * s_dvt + o_d[None, :], dv, mask=m_out)
