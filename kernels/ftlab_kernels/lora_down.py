"""The products of LoRA that read x: x A^T, dA, and the part of dx that dropout masks.

    u = d(x) A^T                          [T, P]   (the targets' ranks side by side)
    dA = v^T d(x)                         [r, K]   v = s dy B; fp32, in a fixed order
    dx += d'(v A)                         [T, K]   d' masks and scales as d does

x is read once for all targets that share it. With dropout every target has its own mask, drawn
again from its seed (`philox`) in every one of the three, and x is read once a target.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.dispatch import multiplies
from ftlab_kernels.lora_layout import PAD, UNIT, Columns, padded, precision
from ftlab_kernels.philox import keep_mask
from ftlab_kernels.reference import lora_products as reference
from ftlab_kernels.tuning import capability, lookup, pow2_class


@triton.jit
def _pick(i, v0, v1, v2):
    """The i-th of three."""
    return tl.where(i == 0, v0, tl.where(i == 1, v1, v2))


@triton.jit
def _project_kernel(
    p_x, p_a, p_u, p_seeds, T, K, start, s_x, s_a, s_u, width, ones, pad,
    first0, first1, first2, last0, last1, last2,
    drop0, drop1, drop2, gain0, gain1, gain2,
    DROPOUT: tl.constexpr, BLOCKS: tl.constexpr, BLOCK_R: tl.constexpr, PAD: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """u of BLOCK_T tokens; axis 1 counts targets, and BLOCKS blocks of columns within each."""
    o_t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    i_c, i_block = tl.program_id(1) // BLOCKS, tl.program_id(1) % BLOCKS
    o_r = _pick(i_c, first0, first1, first2) + i_block * BLOCK_R + tl.arange(0, BLOCK_R)
    o_k = tl.arange(0, BLOCK_K)
    m_t, m_r = o_t < T, o_r < _pick(i_c, last0, last1, last2)
    u = tl.zeros((BLOCK_T, BLOCK_R), dtype=tl.float32)
    p_xs = p_x + o_t[:, None] * s_x + o_k[None, :]
    p_as = p_a + o_r[:, None].to(tl.int64) * s_a + o_k[None, :]
    for k in range(0, K, BLOCK_K):
        m_k = o_k < K - k
        x = tl.load(p_xs, mask=m_t[:, None] & m_k[None, :], other=0.0)
        a = tl.load(p_as, mask=m_r[:, None] & m_k[None, :], other=0.0)
        if DROPOUT:
            kept = keep_mask(
                tl.load(p_seeds + i_c),
                (start + o_t)[:, None] * K + k + o_k[None, :],
                _pick(i_c, drop0, drop1, drop2),
            )
            x = tl.where(kept, x * _pick(i_c, gain0, gain1, gain2), 0.0).to(a.dtype)
        u = tl.dot(x, tl.trans(a), u, input_precision=PRECISION)
        p_xs += BLOCK_K
        p_as += BLOCK_K
    p_us = p_u + o_t[:, None] * s_u
    u = u.to(p_u.dtype.element_ty)
    tl.store(p_us + o_r[None, :], u, mask=m_t[:, None] & m_r[None, :])
    if tl.program_id(1) == 0:
        o_rest = width + tl.arange(0, PAD)
        rest = tl.where(o_rest == ones, 1.0, 0.0)[None, :] + tl.zeros((BLOCK_T, PAD), tl.float32)
        m_rest = m_t[:, None] & (o_rest < pad)[None, :]
        tl.store(p_us + o_rest[None, :], rest.to(p_u.dtype.element_ty), mask=m_rest)


@triton.jit
def _grad_a_kernel(
    p_v, p_x, p_part, p_seeds, T, K, start, s_v, s_x, tokens, width,
    first0, first1, first2, last0, last1, last2,
    drop0, drop1, drop2, gain0, gain1, gain2,
    DROPOUT: tl.constexpr, BLOCKS: tl.constexpr, BLOCK_R: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """v^T d(x) over `tokens` tokens (axis 1) for BLOCK_K columns: fp32 part [splits, width, K]."""
    o_k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    i_s = tl.program_id(1).to(tl.int64)
    i_c, i_block = tl.program_id(2) // BLOCKS, tl.program_id(2) % BLOCKS
    o_r = _pick(i_c, first0, first1, first2) + i_block * BLOCK_R + tl.arange(0, BLOCK_R)
    m_k, m_r = o_k < K, o_r < _pick(i_c, last0, last1, last2)
    grad = tl.zeros((BLOCK_R, BLOCK_K), dtype=tl.float32)
    for t in range(0, tokens, BLOCK_T):
        o_t = i_s * tokens + t + tl.arange(0, BLOCK_T)
        m_t = o_t < T
        p_vs = p_v + o_t[:, None] * s_v + o_r[None, :]
        v = tl.load(p_vs, mask=m_t[:, None] & m_r[None, :], other=0.0)
        p_xs = p_x + o_t[:, None] * s_x + o_k[None, :]
        x = tl.load(p_xs, mask=m_t[:, None] & m_k[None, :], other=0.0)
        if DROPOUT:
            kept = keep_mask(
                tl.load(p_seeds + i_c),
                (start + o_t)[:, None] * K + o_k[None, :],
                _pick(i_c, drop0, drop1, drop2),
            )
            x = tl.where(kept, x * _pick(i_c, gain0, gain1, gain2), 0.0).to(v.dtype)
        grad = tl.dot(tl.trans(v), x, grad, input_precision=PRECISION)
    p_out = p_part + (i_s * width + o_r[:, None]) * K + o_k[None, :]
    tl.store(p_out, grad, mask=m_r[:, None] & m_k[None, :])


@triton.jit
def _masked_kernel(
    p_dx, p_v, p_a, p_seeds, T, K, start, s_dx, s_v, s_a,
    first0, first1, first2, last0, last1, last2,
    drop0, drop1, drop2, gain0, gain1, gain2,
    TARGETS: tl.constexpr, BLOCKS: tl.constexpr, BLOCK_R: tl.constexpr,
    PRECISION: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """dx += sum over targets of d'(v A), for a tile [BLOCK_T, BLOCK_K]."""
    o_t = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)
    o_k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    m_t, m_k = o_t < T, o_k < K
    m_dx = m_t[:, None] & m_k[None, :]
    p_dxs = p_dx + o_t[:, None] * s_dx + o_k[None, :]
    dx = tl.load(p_dxs, mask=m_dx, other=0.0).to(tl.float32)
    i_flat = (start + o_t)[:, None] * K + o_k[None, :]
    for i_c in range(TARGETS):
        first, last = _pick(i_c, first0, first1, first2), _pick(i_c, last0, last1, last2)
        product = tl.zeros((BLOCK_T, BLOCK_K), dtype=tl.float32)
        for i_block in range(BLOCKS):
            o_r = first + i_block * BLOCK_R + tl.arange(0, BLOCK_R)
            m_r = o_r < last
            p_vs = p_v + o_t[:, None] * s_v + o_r[None, :]
            v = tl.load(p_vs, mask=m_t[:, None] & m_r[None, :], other=0.0)
            p_as = p_a + o_r[:, None].to(tl.int64) * s_a + o_k[None, :]
            a = tl.load(p_as, mask=m_r[:, None] & m_k[None, :], other=0.0)
            product = tl.dot(v, a, product, input_precision=PRECISION)
        kept = keep_mask(tl.load(p_seeds + i_c), i_flat, _pick(i_c, drop0, drop1, drop2))
        dx += tl.where(kept, product * _pick(i_c, gain0, gain1, gain2), 0.0)
    tl.store(p_dxs, dx.to(p_dx.dtype.element_ty), mask=m_dx)


def _targets(columns: Columns, dropout: bool) -> tuple[list[float], int, int]:
    """Arguments first, last, drop and gain of each target; the targets; the widest one.

    Without dropout all targets are one: their masks were all that told them apart.
    """
    if not dropout:
        return [0, 0, 0, columns.width, 0, 0, *[0.0] * 3, *[1.0] * 3], 1, columns.width
    gains = [1 / (1 - p) for p in columns.drops]
    given = [padded(columns.firsts), padded(columns.lasts), padded(columns.drops, 0.0)]
    flat = [value for three in (*given, padded(gains, 1.0)) for value in three]
    return flat, len(columns.ranks), max(columns.ranks)


def _config(op: str, rows: int, tensor: Tensor, most: int, widest: int) -> dict[str, int]:
    """Block sizes; BLOCKS blocks of BLOCK_R <= `most` columns cover the widest target."""
    tuned = lookup(f"lora_{op}", pow2_class("t", rows, 1024, 16384), capability(tensor))
    if tensor.dtype == torch.float32:  # twice the bytes in shared memory
        most = min(most, 64)
        tuned = {**tuned, "BLOCK_K": min(64, tuned["BLOCK_K"]), "num_stages": 1}
    block_r = min(most, max(UNIT, triton.next_power_of_2(widest)))
    return {**tuned, "BLOCK_R": block_r, "BLOCKS": max(1, triton.cdiv(widest, block_r))}


def project(
    x: Tensor,
    a: Tensor,
    columns: Columns,
    *,
    seeds: Tensor | None = None,
    out: Tensor,
    start: int = 0,
) -> Tensor:
    """u = d(x) A^T, the column of ones, and zeros in the columns that nothing uses.

    Args:
        x: [T, K], any row stride.
        a: [P, K] in x's dtype: the targets' A in their columns, zeros between.
        seeds: int64 [targets] on the device; None means no dropout.
        out: [T, P] in x's dtype, any row stride.
        start: row number of x[0] where x is some rows of a longer one: its masks are theirs.
    """
    dropout = seeds is not None and columns.drops_any
    if not multiplies(x):
        return reference.project(x, a, columns, seeds if dropout else None, out, start)
    T, K = x.shape
    arguments, targets, widest = _targets(columns, dropout)
    config = _config("project", T, x, 128, widest)
    grid = (triton.cdiv(T, config["BLOCK_T"]), targets * config["BLOCKS"])
    _project_kernel[grid](
        x, a, out, seeds if dropout else x, T, K, start, x.stride(0), a.stride(0), out.stride(0),
        columns.width, columns.ones, columns.pad, *arguments,
        DROPOUT=dropout, PAD=PAD, PRECISION=precision(x.dtype), **config,
    )  # fmt: skip
    return out


def grad_a_parts(
    v: Tensor, x: Tensor, columns: Columns, *, seeds: Tensor | None = None, start: int = 0
) -> Tensor:
    """dA as fp32 [splits, width, K], to be summed over the splits in order (`lora_sum`).

    Args:
        v: [T, P] = s dy B in x's dtype, any row stride.
        x: [T, K], any row stride.
        seeds, start: as in `project`.
    """
    dropout = seeds is not None and columns.drops_any
    if not multiplies(x):
        return reference.grad_a(v, x, columns, seeds if dropout else None, start)[None]
    T, K = x.shape
    arguments, targets, widest = _targets(columns, dropout)
    config = _config("grad_a", T, x, 128, widest)
    splits = config.pop("SPLITS")
    tokens = triton.cdiv(triton.cdiv(T, splits), config["BLOCK_T"]) * config["BLOCK_T"]
    splits = triton.cdiv(T, tokens)
    part = torch.empty((splits, columns.width, K), dtype=torch.float32, device=x.device)
    grid = (triton.cdiv(K, config["BLOCK_K"]), splits, targets * config["BLOCKS"])
    _grad_a_kernel[grid](
        v, x, part, seeds if dropout else x, T, K, start, v.stride(0), x.stride(0), tokens,
        columns.width, *arguments, DROPOUT=dropout, PRECISION=precision(x.dtype), **config,
    )  # fmt: skip
    return part


def add_masked(
    dx: Tensor, v: Tensor, a: Tensor, columns: Columns, seeds: Tensor, *, start: int = 0
) -> Tensor:
    """dx += sum over targets of d'(v A), in place. Shapes and `start` as in `project`."""
    if not multiplies(dx):
        return reference.add_masked(dx, v, a, columns, seeds, start)
    T, K = dx.shape
    arguments, targets, widest = _targets(columns, True)
    config = _config("add_masked", T, dx, 64, widest)
    grid = (triton.cdiv(T, config["BLOCK_T"]), triton.cdiv(K, config["BLOCK_K"]))
    _masked_kernel[grid](
        dx, v, a, seeds, T, K, start, dx.stride(0), v.stride(0), a.stride(0),
        *arguments, TARGETS=targets, PRECISION=precision(dx.dtype), **config,
    )  # fmt: skip
    return dx
