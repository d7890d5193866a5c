"""Forward kernel of attention: one program per tile of queries and head, online softmax.

    s = scale q k^T  (soft-capped: c tanh(s / c))
    lse = log sum_j exp(s_j),  o = sum_j exp(s_j - lse) v_j

Over the shared prefix first, then the span itself: whole blocks without a mask, then the diagonal.
Exponentials are powers of two with the scale folded in. Dao 2023, "FlashAttention-2".
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import attention_config
from ftlab_kernels.attention_layout import Layout
from ftlab_kernels.attention_tile import (
    HIDDEN,
    LN2,
    LOG2E,
    load_rows,
    product,
    rows_of,
    scores,
    tanh,
    visible,
)

# One line an argument would hide the kernel's order.
# fmt: off


@triton.jit
def _step(acc, m_i, l_i, q, x_k, x_v, i_row, i_end, i_head, o_query, i_key, s_kt, s_kh, s_vt, s_vh,
          scale, softcap, o_n, o_d, D: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
          MASK: tl.constexpr, TMA: tl.constexpr, PRECISION: tl.constexpr):
    """Take the keys of one block into the running softmax."""
    k = load_rows(x_k, i_row, i_end, i_head, s_kt, s_kh, o_n, o_d, D, TMA, not MASK)
    s = scores(q, k, PRECISION)
    if SOFTCAP:
        s = softcap * tanh(s * (scale / softcap))
        factor = LOG2E
    else:
        factor = scale * LOG2E
    if MASK or WINDOW > 0:
        # Scaled before it is hidden: in a row that sees nothing yet, s - m must be exactly 0, which
        # a fused multiply-add of so large a number is not.
        o_key, o_row = (i_key + o_n)[None, :], (i_row + o_n)[None, :]
        s = tl.where(visible(o_query[:, None], o_key, o_row, i_end, WINDOW), s * factor, HIDDEN)
        m_new = tl.maximum(m_i, tl.max(s, 1))
        p = tl.exp2(s - m_new[:, None])
    else:
        m_new = tl.maximum(m_i, tl.max(s, 1) * factor)
        p = tl.exp2(s * factor - m_new[:, None])
    shrink = tl.exp2(m_i - m_new)
    l_i = l_i * shrink + tl.sum(p, 1)
    acc = acc * shrink[:, None]
    v = load_rows(x_v, i_row, i_end, i_head, s_vt, s_vh, o_n, o_d, D, TMA, not MASK)
    acc = product(p.to(v.dtype), v, acc, PRECISION)
    return acc, m_new, l_i


@triton.jit
def _forward_kernel(
    p_q, p_k, p_v, p_o, p_lse, p_tiles, p_order, s_qt, s_qh, s_kt, s_kh, s_vt, s_vh, s_ot, s_oh,
    T, scale, softcap, H: tl.constexpr, GROUP: tl.constexpr, D: tl.constexpr, BLOCK_D: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, WINDOW: tl.constexpr, SOFTCAP: tl.constexpr,
    PREFIX: tl.constexpr, TMA: tl.constexpr, PRECISION: tl.constexpr,
):
    i_program = tl.load(p_order + tl.program_id(0))
    i_head = i_program % H
    p_tile = p_tiles + i_program // H * 8
    i_first = tl.load(p_tile)
    if i_first < 0:
        return
    i_start, i_end = tl.load(p_tile + 1), tl.load(p_tile + 2)
    i_kv = i_head // GROUP
    o_m, o_n, o_d = tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_D)
    q = load_rows(p_q, i_first, i_end, i_head, s_qt, s_qh, o_m, o_d, D, False, False)
    x_k = rows_of(p_k, s_kt, s_kh, T, H // GROUP, BLOCK_D, BLOCK_N, TMA)
    x_v = rows_of(p_v, s_vt, s_vh, T, H // GROUP, BLOCK_D, BLOCK_N, TMA)
    acc = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
    m_i = tl.full([BLOCK_M], HIDDEN, tl.float32)
    l_i = tl.zeros([BLOCK_M], tl.float32)
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
            acc, m_i, l_i = _step(
                acc, m_i, l_i, q, x_k, x_v, i_prefix + i, i_prefix + i_before, i_kv, o_query, i,
                s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP, False, TMA,
                PRECISION)
        for i in range(i_whole, i_before, BLOCK_N):
            acc, m_i, l_i = _step(
                acc, m_i, l_i, q, x_k, x_v, i_prefix + i, i_prefix + i_before, i_kv, o_query, i,
                s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP, True, TMA,
                PRECISION)
    i_low = 0
    if WINDOW > 0:
        i_low = tl.maximum(i_first - i_start - WINDOW + 1, 0) // BLOCK_N * BLOCK_N
    i_whole = tl.maximum((i_first - i_start) // BLOCK_N * BLOCK_N, i_low)
    for i in range(i_low, i_whole, BLOCK_N):
        acc, m_i, l_i = _step(
            acc, m_i, l_i, q, x_k, x_v, i_start + i, i_end, i_kv, o_query, i_before + i,
            s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP, False, TMA,
            PRECISION)
    i_last = tl.minimum(i_first + BLOCK_M, i_end) - i_start
    for i in range(i_whole, i_last, BLOCK_N):
        acc, m_i, l_i = _step(
            acc, m_i, l_i, q, x_k, x_v, i_start + i, i_end, i_kv, o_query, i_before + i,
            s_kt, s_kh, s_vt, s_vh, scale, softcap, o_n, o_d, D, WINDOW, SOFTCAP, True, TMA,
            PRECISION)
    m_m = i_first + o_m < i_end
    l_i = tl.where(m_m, l_i, 1.0)  # a row that is none may have seen nothing
    tl.store(p_lse + i_head.to(tl.int64) * T + i_first + o_m, (m_i + tl.log2(l_i)) * LN2, mask=m_m)
    p_out = p_o + i_first.to(tl.int64) * s_ot + i_head.to(tl.int64) * s_oh
    out = (acc / l_i[:, None]).to(p_o.dtype.element_ty)
    m_out = m_m[:, None] & (o_d[None, :] < D)
    tl.store(p_out + o_m[:, None] * s_ot + o_d[None, :], out, mask=m_out)

# fmt: on


def attention_forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: Layout,
    *,
    scale: float,
    window: int | None = None,
    softcap: float | None = None,
    out: Tensor | None = None,
    lse: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Launch the forward kernel.

    Args:
        q: [T, Hq, D]; k, v: [T, Hkv, D]; any strides of rows and heads, the last one is 1.
        scale: above 0.
        out: [T, Hq, D] to write to, a view is fine.
        lse: fp32 [Hq, T] to write to.

    Returns:
        out in q's dtype and lse, the natural logarithm of each row's sum of exponentials.
    """
    T, H, D = q.shape
    out = q.new_empty(T, H, D) if out is None else out
    lse = q.new_empty(H, T, dtype=torch.float32) if lse is None else lse
    facts = attention_config.facts(q, k, layout, scale, window, softcap, (v, out))
    config = attention_config.lookup("attention_forward", q, layout, (k, v), facts)
    tiles = layout.queries(config["BLOCK_M"], H, k.shape[1])
    _forward_kernel[(len(tiles.order),)](
        q, k, v, out, lse, *tiles, *q.stride()[:2], *k.stride()[:2], *v.stride()[:2],
        *out.stride()[:2], T, scale, softcap or 0.0, **facts, **config,
    )  # fmt: skip
    return out, lse
