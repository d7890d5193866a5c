"""Backward kernels of attention: dq by one program a tile of queries, dk and dv by one a tile of keys.

    P = exp(s - lse), delta = rowsum(dO o), dS = P (dO v^T - delta)  (soft-capped: times 1 - (s / c)^2)
    dq = scale dS k,  dk = scale dS^T q,  dv = P^T dO

Each sum has one owner that adds in a fixed order: no atomics, and the same bits in every run. The
price is seven products instead of five. delta is made by the first kernel, which holds dO anyway.
Grouped heads are walked by the owner of their key head. Dao 2023, "FlashAttention-2".
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import attention_config
from ftlab_kernels.attention_layout import Layout
from ftlab_kernels.attention_tile import LOG2E, load_rows, product, rows_of, scores, tanh, visible


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
        seen = visible(o_query[:, None], (i_key + o_n)[None, :], (i_row + o_n)[None, :], i_end, WINDOW)
        p = tl.where(seen, p, 0.0)
    ds = p * (dp - delta[:, None])
    if SOFTCAP:
        ds = ds * (1.0 - t * t)
    return product(ds.to(k.dtype), k, dq, PRECISION)


@triton.jit
def _query_kernel(
    p_q, p_k, p_v, p_o, p_do, p_lse, p_delta, p_dq, p_tiles, s_qt, s_qh, s_kt, s_kh, s_vt, s_vh,
    s_ot, s_oh, s_dot, s_doh, s_dqt, s_dqh, T, scale, softcap, H: tl.constexpr, GROUP: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, PREFIX: tl.constexpr, TMA: tl.constexpr,
    PRECISION: tl.constexpr,
):
    i_tile, i_head = tl.program_id(0) // H, tl.program_id(0) % H
    p_tile = p_tiles + i_tile * 8
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


@triton.jit
def _key_step(dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_end, i_head, o_query, o_key, o_key_row,
              i_key_end, s_qt, s_qh, s_dot, s_doh, T, scale, softcap, o_m, o_d, D: tl.constexpr,
              WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, MASK: tl.constexpr, TMA: tl.constexpr,
              PRECISION: tl.constexpr):
    """Add the queries of one block of one head to dk / scale and dv. Tiles are [keys, queries]."""
    p_row = i_head.to(tl.int64) * T + i_row + o_m
    m_m = i_row + o_m < i_end
    q = load_rows(x_q, i_row, i_end, i_head, s_qt, s_qh, o_m, o_d, D, TMA, False)
    # Rows from i_end on get exp2(s - inf) = 0, so their values do not matter.
    lse = tl.load(p_lse + p_row, mask=m_m, other=float("inf")) * LOG2E
    s = scores(k, q, PRECISION)
    if SOFTCAP:
        t = tanh(s * (scale / softcap))
        p = tl.exp2(t * (softcap * LOG2E) - lse[None, :])
    else:
        p = tl.exp2(s * (scale * LOG2E) - lse[None, :])
    if MASK or WINDOW > 0:
        seen = visible(o_query[None, :], o_key[:, None], o_key_row[:, None], i_key_end, WINDOW)
        p = tl.where(seen, p, 0.0)
    d_out = load_rows(x_do, i_row, i_end, i_head, s_dot, s_doh, o_m, o_d, D, TMA, False)
    dv = product(p.to(d_out.dtype), d_out, dv, PRECISION)
    delta = tl.load(p_delta + p_row, mask=m_m, other=0.0)
    dp = scores(v, d_out, PRECISION)
    ds = p * (dp - delta[None, :])
    if SOFTCAP:
        ds = ds * (1.0 - t * t)
    dk = product(ds.to(q.dtype), q, dk, PRECISION)
    return dk, dv


@triton.jit
def _key_kernel(
    p_q, p_k, p_v, p_do, p_lse, p_delta, p_dk, p_dv, p_tiles, p_positions, s_qt, s_qh, s_kt, s_kh,
    s_vt, s_vh, s_dot, s_doh, s_dkt, s_dkh, s_dvt, s_dvh, T, scale, softcap, H: tl.constexpr,
    GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr, PREFIX: tl.constexpr,
    TMA: tl.constexpr, PRECISION: tl.constexpr,
):
    KV: tl.constexpr = H // GROUP
    i_tile, i_kv = tl.program_id(0) // KV, tl.program_id(0) % KV
    p_tile = p_tiles + i_tile * 8
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
    # Blocks of queries: the diagonal, those behind it, and the further continuations of a prompt.
    i_low = i_start + (i_first - i_start) // BLOCK_M * BLOCK_M
    i_high = i_end
    if WINDOW > 0:
        i_high = tl.minimum(i_end, i_first + BLOCK_N - 1 + WINDOW)
    i_behind = tl.minimum(i_low + (i_first + BLOCK_N - i_low + BLOCK_M - 1) // BLOCK_M * BLOCK_M, i_high)
    n_diagonal = tl.cdiv(i_behind - i_low, BLOCK_M)
    for i in range(0, n_diagonal * GROUP):
        i_head, i_row = i_kv * GROUP + i // n_diagonal, i_low + i % n_diagonal * BLOCK_M
        dk, dv = _key_step(
            dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_end, i_head,
            i_before + (i_row - i_start) + o_m, o_key, o_row, i_end, s_qt, s_qh, s_dot, s_doh, T,
            scale, softcap, o_m, o_d, D, WINDOW, SOFTCAP, True, TMA, PRECISION)
    n_behind = tl.cdiv(i_high - i_behind, BLOCK_M)
    for i in range(0, n_behind * GROUP):
        i_head, i_row = i_kv * GROUP + i // n_behind, i_behind + i % n_behind * BLOCK_M
        dk, dv = _key_step(
            dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_end, i_head,
            i_before + (i_row - i_start) + o_m, o_key, o_row, i_end, s_qt, s_qh, s_dot, s_doh, T,
            scale, softcap, o_m, o_d, D, WINDOW, SOFTCAP, False, TMA, PRECISION)
    if PREFIX:
        i_from, i_to, i_shared = tl.load(p_tile + 5), tl.load(p_tile + 6), tl.load(p_tile + 7)
        n_readers = tl.cdiv(i_to - i_from, BLOCK_M)
        for i in range(0, n_readers * GROUP):
            i_head, i_row = i_kv * GROUP + i // n_readers, i_from + i % n_readers * BLOCK_M
            # Every reader lies behind the whole prompt; a window needs to know how far.
            o_query = i_shared + o_m
            if WINDOW > 0:
                o_query = tl.load(p_positions + i_row + o_m, mask=i_row + o_m < i_to, other=0)
            dk, dv = _key_step(
                dk, dv, k, v, x_q, x_do, p_lse, p_delta, i_row, i_to, i_head, o_query, o_key,
                o_row, i_shared, s_qt, s_qh, s_dot, s_doh, T, scale, softcap, o_m, o_d, D, WINDOW,
                SOFTCAP, True, TMA, PRECISION)
    m_out = (o_row < i_end)[:, None] & (o_d[None, :] < D)
    p_out = p_dk + i_first.to(tl.int64) * s_dkt + i_kv.to(tl.int64) * s_dkh
    tl.store(p_out + o_n[:, None] * s_dkt + o_d[None, :], (dk * scale).to(p_dk.dtype.element_ty), mask=m_out)
    p_out = p_dv + i_first.to(tl.int64) * s_dvt + i_kv.to(tl.int64) * s_dvh
    tl.store(p_out + o_n[:, None] * s_dvt + o_d[None, :], dv.to(p_dv.dtype.element_ty), mask=m_out)


def attention_backward(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    layout: Layout,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    dq: Tensor | None = None,
    dk: Tensor | None = None,
    dv: Tensor | None = None,
    delta: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the two backward kernels.

    Args:
        grad, q, k, v, out, lse: as given to and returned by `attention_forward`; any strides of
            rows and heads, the last one is 1.
        dq, dk, dv: where to write, views are fine.
        delta: fp32 [Hq, T] scratch.

    Returns:
        dq [T, Hq, D], dk and dv [T, Hkv, D].
    """
    T, H, D = q.shape
    dq = q.new_empty(q.shape) if dq is None else dq
    dk = k.new_empty(k.shape) if dk is None else dk
    dv = v.new_empty(v.shape) if dv is None else dv
    delta = torch.empty_like(lse) if delta is None else delta
    facts = attention_config.facts(q, k, layout, scale, window, softcap, (v, out, grad, dq, dk, dv))
    config = attention_config.lookup("attention_backward_query", q, (k, v))
    tiles = layout.tiles(config["BLOCK_M"]).queries
    _query_kernel[(len(tiles) * H,)](
        q, k, v, out, grad, lse, delta, dq, tiles, *q.stride()[:2], *k.stride()[:2],
        *v.stride()[:2], *out.stride()[:2], *grad.stride()[:2], *dq.stride()[:2], T, scale,
        softcap or 0.0, **facts, **config,
    )  # fmt: skip
    config = attention_config.lookup("attention_backward_key", q, (q, grad))
    tiles = layout.tiles(config["BLOCK_N"]).keys
    positions = layout.positions() if facts["PREFIX"] and facts["WINDOW"] else None
    _key_kernel[(len(tiles) * k.shape[1],)](
        q, k, v, grad, lse, delta, dk, dv, tiles, positions, *q.stride()[:2], *k.stride()[:2],
        *v.stride()[:2], *grad.stride()[:2], *dk.stride()[:2], *dv.stride()[:2], T, scale,
        softcap or 0.0, **facts, **config,
    )  # fmt: skip
    return dq, dk, dv
