"""Backward of attention: dq by one program a tile of queries, dk and dv by one a tile of keys.

Each sum has one owner that adds in a fixed order: no atomics, and the same bits in every run. The
price is seven products instead of five. The formulas stand with the two kernels. Dao 2023,
"FlashAttention-2".
"""

import torch
from torch import Tensor

from ftlab_kernels import attention_config, attention_heads
from ftlab_kernels.attention_backward_key import key_kernel
from ftlab_kernels.attention_backward_query import query_kernel
from ftlab_kernels.attention_layout import Layout


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
    T, H, _ = q.shape
    dq = q.new_empty(q.shape) if dq is None else dq
    dk = k.new_empty(k.shape) if dk is None else dk
    dv = v.new_empty(v.shape) if dv is None else dv
    delta = torch.empty_like(lse) if delta is None else delta
    facts = attention_config.facts(q, k, layout, scale, window, softcap, (v, out, grad, dq, dk, dv))
    config = attention_config.lookup("attention_backward_query", q, layout, (k, v), facts)
    tiles = layout.queries(config["BLOCK_M"], H, k.shape[1])
    query_kernel[(len(tiles.order),)](
        q, k, v, out, grad, lse, delta, dq, *tiles, *q.stride()[:2], *k.stride()[:2],
        *v.stride()[:2], *out.stride()[:2], *grad.stride()[:2], *dq.stride()[:2], T, scale,
        softcap or 0.0, **facts, **config,
    )  # fmt: skip
    config = attention_config.lookup("attention_backward_key", q, layout, (q, grad), facts)
    heads = attention_heads.heads_of_program(q, k.shape[1], config["BLOCK_N"])
    apart = heads < facts["GROUP"]
    to_k, to_v = attention_heads.parts(k, H) if apart else (dk, dv)
    tiles = layout.keys(config["BLOCK_N"], H // heads)
    positions = layout.positions() if facts["PREFIX"] and facts["WINDOW"] else None
    key_kernel[(len(tiles.order),)](
        q, k, v, grad, lse, delta, to_k, to_v, *tiles, positions, *q.stride()[:2], *k.stride()[:2],
        *v.stride()[:2], *grad.stride()[:2], *to_k.stride()[:2], *to_v.stride()[:2], T, scale,
        softcap or 0.0, HEADS=heads, **facts, **config,
    )  # fmt: skip
    if apart:
        attention_heads.sum_heads(to_k, to_v, dk, dv)
    return dq, dk, dv
