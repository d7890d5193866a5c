"""total += a^T b in fp32, for a trained head's weight gradient summed over chunks of tokens.

    total[m, n] += sum_k a[k, m] b[k, n]

The products of 16-bit factors are exact in fp32, and no chunk's sum is rounded to 16 bits. One
program owns a tile and goes through k in order, so that every bit repeats.
"""

import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.dispatch import multiplies
from ftlab_kernels.lora_layout import precision
from ftlab_kernels.tuning import capability, lookup


@triton.jit
def _accumulate_kernel(
    p_a, p_b, p_total, M, N, K, s_a, s_b, s_total,
    PRECISION: tl.constexpr, GROUP: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """A tile [BLOCK_M, BLOCK_N]; GROUP rows of tiles are walked together to meet in the cache."""
    i = tl.program_id(0)
    tiles_m, tiles_n = tl.cdiv(M, BLOCK_M), tl.cdiv(N, BLOCK_N)
    in_group = GROUP * tiles_n
    first = i // in_group * GROUP
    height = tl.minimum(tiles_m - first, GROUP)
    i_m, i_n = first + (i % in_group) % height, (i % in_group) // height
    o_m = (i_m * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    o_n = i_n * BLOCK_N + tl.arange(0, BLOCK_N)
    o_k = tl.arange(0, BLOCK_K).to(tl.int64)
    m_m, m_n = o_m < M, o_n < N
    p_as = p_a + o_k[:, None] * s_a + o_m[None, :]
    p_bs = p_b + o_k[:, None] * s_b + o_n[None, :]
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for k in range(0, K, BLOCK_K):
        m_k = (o_k < K - k)[:, None]
        a = tl.load(p_as, mask=m_k & m_m[None, :], other=0.0)
        b = tl.load(p_bs, mask=m_k & m_n[None, :], other=0.0)
        total = tl.dot(tl.trans(a), b, total, input_precision=PRECISION)
        p_as += BLOCK_K * s_a
        p_bs += BLOCK_K * s_b
    p_totals = p_total + o_m[:, None] * s_total + o_n[None, :]
    m_total = m_m[:, None] & m_n[None, :]
    total += tl.load(p_totals, mask=m_total, other=0.0)
    tl.store(p_totals, total, mask=m_total)


def accumulate_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """total += a^T b in place.

    Args:
        total: fp32 [M, N] (fp64 on the CPU), any row stride.
        a: [K, M], b: [K, N] of one dtype, any row strides.
    """
    if not multiplies(total):
        return total.add_(a.t().to(total.dtype) @ b.to(total.dtype))
    (K, M), N = a.shape, b.shape[1]
    config = lookup("accumulate_product", "*", capability(total))
    tiles = triton.cdiv(M, config["BLOCK_M"]) * triton.cdiv(N, config["BLOCK_N"])
    _accumulate_kernel[(tiles,)](
        a, b, total, M, N, K, a.stride(0), b.stride(0), total.stride(0),
        PRECISION=precision(a.dtype), **config,
    )  # fmt: skip
    return total
