"""Rotary position embedding in Triton: q and k in one launch, in place; optional per-head RMSNorm.

    forward    z = x r w where normed, else x;  [y1, y2] = [z1 cos - z2 sin, z2 cos + z1 sin]
    backward   the same with -sin; then through the norm: dx = r (w dz - x r mean(w dz x r))

x1, x2 are the halves of the R leading features; the rest passes through. Everything in fp32,
rounded once (the norm's output is rounded before it is rotated, as in the reference). Weight
gradients are partial sums in an order fixed by the shapes. Su et al. 2021; the norm as
in Qwen3 and Gemma3.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.column_sum import column_sum
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.rope import rope as reference

WIDEST_HEAD = 512
PARTIALS = 264  # at most: programs that sum weight gradients


@triton.jit
def rotate_heads(
    p_x, p_y, o_x, o_y, cos, sin, m, o_half, HALF: tl.constexpr
):  # fmt: skip
    """Rotate a tile [TOKENS, HEADS, BLOCK] of both halves."""
    first = tl.load(p_x + o_x + o_half, mask=m, other=0.0).to(tl.float32)
    second = tl.load(p_x + o_x + o_half + HALF, mask=m, other=0.0).to(tl.float32)
    dtype = p_y.dtype.element_ty
    tl.store(p_y + o_y + o_half, (first * cos - second * sin).to(dtype), mask=m)
    tl.store(p_y + o_y + o_half + HALF, (second * cos + first * sin).to(dtype), mask=m)


@triton.jit
def rope_kernel(
    p_q, p_k, p_cos, p_sin, p_positions, T,
    stride_q_token, stride_q_head, stride_k_token, stride_k_head,
    POSITIONS: tl.constexpr, INVERSE: tl.constexpr, HQ: tl.constexpr, HK: tl.constexpr,
    BLOCK_HQ: tl.constexpr, BLOCK_HK: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
    TOKENS: tl.constexpr,
):  # fmt: skip
    """One program: all heads of TOKENS tokens, in place."""
    o_token = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS)
    o_half = tl.arange(0, BLOCK)
    position = o_token
    if POSITIONS:
        position = tl.load(p_positions + o_token, mask=o_token < T, other=0).to(tl.int64)
    o_table = position[:, None] * HALF + o_half[None, :]
    m_table = (o_token < T)[:, None] & (o_half < HALF)[None, :]
    cos = tl.load(p_cos + o_table, mask=m_table, other=0.0).to(tl.float32)[:, None, :]
    sin = tl.load(p_sin + o_table, mask=m_table, other=0.0).to(tl.float32)[:, None, :]
    if INVERSE:
        sin = -sin
    o_half = o_half[None, None, :]
    m_token = m_table[:, None, :]
    o_token = o_token[:, None, None]
    o_head = tl.arange(0, BLOCK_HQ)[None, :, None]
    o_x = o_token * stride_q_token + o_head * stride_q_head
    rotate_heads(p_q, p_q, o_x, o_x, cos, sin, m_token & (o_head < HQ), o_half, HALF)
    o_head = tl.arange(0, BLOCK_HK)[None, :, None]
    o_x = o_token * stride_k_token + o_head * stride_k_head
    rotate_heads(p_k, p_k, o_x, o_x, cos, sin, m_token & (o_head < HK), o_half, HALF)


@triton.jit
def norm_weight(p_weight, o_col, m, dtype, OFFSET: tl.constexpr, WEIGHT_FP32: tl.constexpr):
    """offset + weight in fp32, rounded as the family does."""
    weight = tl.load(p_weight + o_col, mask=m, other=0.0)
    if WEIGHT_FP32:
        return weight.to(tl.float32) + OFFSET
    weight = weight.to(dtype).to(tl.float32)
    if OFFSET != 0.0:
        weight = (weight + OFFSET).to(dtype).to(tl.float32)
    return weight


@triton.jit
def scaled_part(x, rstd, weight, dtype, WEIGHT_FP32: tl.constexpr):
    """x r w, rounded as the reference rounds it."""
    normed = x * rstd
    if WEIGHT_FP32:
        return (normed * weight).to(dtype).to(tl.float32)
    return (normed.to(dtype).to(tl.float32) * weight).to(dtype).to(tl.float32)


@triton.jit
def _norm_and_rotate(
    i_tile, p_x, p_y, p_cos, p_sin, p_positions, p_weight, p_rstd, T, stride_x_token, stride_x_head,
    stride_y_token, stride_y_head, stride_rstd, eps,
    OFFSET: tl.constexpr, WEIGHT_FP32: tl.constexpr, POSITIONS: tl.constexpr, HEADS: tl.constexpr,
    HALF: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr, BLOCK_REST: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """ROWS (token, head) pairs of q or of k."""
    dtype = p_y.dtype.element_ty
    D: tl.constexpr = 2 * HALF + REST
    o_row = i_tile.to(tl.int64) * ROWS + tl.arange(0, ROWS)
    o_token = o_row // HEADS
    o_head = o_row % HEADS
    m_row = o_token < T
    o_half = tl.arange(0, BLOCK)[None, :]
    m_half = o_half < HALF
    m = m_row[:, None] & m_half
    o_x = (o_token * stride_x_token + o_head * stride_x_head)[:, None]
    o_y = (o_token * stride_y_token + o_head * stride_y_head)[:, None]
    first = tl.load(p_x + o_x + o_half, mask=m, other=0.0).to(tl.float32)
    second = tl.load(p_x + o_x + o_half + HALF, mask=m, other=0.0).to(tl.float32)
    square = tl.sum(first * first + second * second, axis=1)
    if REST > 0:
        o_rest = 2 * HALF + tl.arange(0, BLOCK_REST)[None, :]
        m_rest = m_row[:, None] & (o_rest < D)
        rest = tl.load(p_x + o_x + o_rest, mask=m_rest, other=0.0).to(tl.float32)
        square += tl.sum(rest * rest, axis=1)
    rstd = tl.rsqrt(square / D + eps)
    tl.store(p_rstd + o_token * stride_rstd + o_head, rstd, mask=m_row)
    rstd = rstd[:, None]
    weight = norm_weight(p_weight, o_half, m_half, dtype, OFFSET, WEIGHT_FP32)
    first = scaled_part(first, rstd, weight, dtype, WEIGHT_FP32)
    weight = norm_weight(p_weight, o_half + HALF, m_half, dtype, OFFSET, WEIGHT_FP32)
    second = scaled_part(second, rstd, weight, dtype, WEIGHT_FP32)
    position = o_token
    if POSITIONS:
        position = tl.load(p_positions + o_token, mask=m_row, other=0).to(tl.int64)
    o_table = position[:, None] * HALF + o_half
    cos = tl.load(p_cos + o_table, mask=m, other=0.0).to(tl.float32)
    sin = tl.load(p_sin + o_table, mask=m, other=0.0).to(tl.float32)
    tl.store(p_y + o_y + o_half, (first * cos - second * sin).to(dtype), mask=m)
    tl.store(p_y + o_y + o_half + HALF, (second * cos + first * sin).to(dtype), mask=m)
    if REST > 0:
        weight = norm_weight(p_weight, o_rest, o_rest < D, dtype, OFFSET, WEIGHT_FP32)
        rest = scaled_part(rest, rstd, weight, dtype, WEIGHT_FP32)
        tl.store(p_y + o_y + o_rest, rest.to(dtype), mask=m_rest)


@triton.jit
def rope_norm_forward_kernel(
    p_q, p_q_out, p_q_weight, p_k, p_k_out, p_k_weight, p_cos, p_sin, p_positions, p_rstd, T,
    tiles_q, stride_q_token, stride_q_head, stride_q_out_token, stride_q_out_head, stride_k_token,
    stride_k_head, stride_k_out_token, stride_k_out_head, stride_rstd, eps,
    OFFSET: tl.constexpr, WEIGHT_FP32: tl.constexpr, POSITIONS: tl.constexpr, HQ: tl.constexpr,
    HK: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr, REST: tl.constexpr,
    BLOCK_REST: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS (token, head) pairs, normed and rotated; `tiles_q` of q, then k's."""
    i_tile = tl.program_id(0)
    if i_tile < tiles_q:
        _norm_and_rotate(
            i_tile, p_q, p_q_out, p_cos, p_sin, p_positions, p_q_weight, p_rstd, T,
            stride_q_token, stride_q_head, stride_q_out_token, stride_q_out_head, stride_rstd, eps,
            OFFSET, WEIGHT_FP32, POSITIONS, HQ, HALF, BLOCK, REST, BLOCK_REST, ROWS,
        )  # fmt: skip
    else:
        _norm_and_rotate(
            i_tile - tiles_q, p_k, p_k_out, p_cos, p_sin, p_positions, p_k_weight, p_rstd + HQ, T,
            stride_k_token, stride_k_head, stride_k_out_token, stride_k_out_head, stride_rstd, eps,
            OFFSET, WEIGHT_FP32, POSITIONS, HK, HALF, BLOCK, REST, BLOCK_REST, ROWS,
        )  # fmt: skip


@triton.jit
def rope_norm_backward_kernel(
    p_dy, p_x, p_cos, p_sin, p_positions, p_weight, p_rstd, p_partial, T, CHUNK,
    stride_dy_token, stride_dy_head, stride_x_token, stride_x_head, stride_rstd,
    OFFSET: tl.constexpr, WEIGHT_FP32: tl.constexpr, POSITIONS: tl.constexpr,
    WEIGHT_GRAD: tl.constexpr, HEADS: tl.constexpr, HALF: tl.constexpr, BLOCK: tl.constexpr,
    REST: tl.constexpr, BLOCK_REST: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """One program: CHUNK (token, head) pairs; gradients of the rotated become those of x."""
    dtype = p_dy.dtype.element_ty
    D: tl.constexpr = 2 * HALF + REST
    i_program = tl.program_id(0).to(tl.int64)
    o_half = tl.arange(0, BLOCK)[None, :]
    m_half = o_half < HALF
    o_rest = 2 * HALF + tl.arange(0, BLOCK_REST)[None, :]
    m_cols = o_rest < D
    if WEIGHT_GRAD:
        total_first = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
        total_second = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
        total_rest = tl.zeros((ROWS, BLOCK_REST), dtype=tl.float32)
    for start in range(0, CHUNK, ROWS):
        o_row = i_program * CHUNK + start + tl.arange(0, ROWS)
        o_token = o_row // HEADS
        o_head = o_row % HEADS
        m_row = o_token < T
        m = m_row[:, None] & m_half
        o_x = (o_token * stride_x_token + o_head * stride_x_head)[:, None]
        o_dy = (o_token * stride_dy_token + o_head * stride_dy_head)[:, None]
        rstd = tl.load(p_rstd + o_token * stride_rstd + o_head, mask=m_row, other=0.0)[:, None]
        position = o_token
        if POSITIONS:
            position = tl.load(p_positions + o_token, mask=m_row, other=0).to(tl.int64)
        o_table = position[:, None] * HALF + o_half
        cos = tl.load(p_cos + o_table, mask=m, other=0.0).to(tl.float32)
        sin = tl.load(p_sin + o_table, mask=m, other=0.0).to(tl.float32)
        dy1 = tl.load(p_dy + o_dy + o_half, mask=m, other=0.0).to(tl.float32)
        dy2 = tl.load(p_dy + o_dy + o_half + HALF, mask=m, other=0.0).to(tl.float32)
        grad1 = dy1 * cos + dy2 * sin
        grad2 = dy2 * cos - dy1 * sin
        x1 = tl.load(p_x + o_x + o_half, mask=m, other=0.0).to(tl.float32) * rstd
        x2 = tl.load(p_x + o_x + o_half + HALF, mask=m, other=0.0).to(tl.float32) * rstd
        if WEIGHT_GRAD:
            total_first += grad1 * x1
            total_second += grad2 * x2
        grad1 *= norm_weight(p_weight, o_half, m_half, dtype, OFFSET, WEIGHT_FP32)
        grad2 *= norm_weight(p_weight, o_half + HALF, m_half, dtype, OFFSET, WEIGHT_FP32)
        dot = tl.sum(grad1 * x1 + grad2 * x2, axis=1)
        if REST > 0:
            m_rest = m_row[:, None] & m_cols
            x3 = tl.load(p_x + o_x + o_rest, mask=m_rest, other=0.0).to(tl.float32) * rstd
            grad3 = tl.load(p_dy + o_dy + o_rest, mask=m_rest, other=0.0).to(tl.float32)
            if WEIGHT_GRAD:
                total_rest += grad3 * x3
            grad3 *= norm_weight(p_weight, o_rest, m_cols, dtype, OFFSET, WEIGHT_FP32)
            dot += tl.sum(grad3 * x3, axis=1)
            mean = (dot / D)[:, None]
            tl.store(p_dy + o_dy + o_rest, (rstd * (grad3 - x3 * mean)).to(dtype), mask=m_rest)
        mean = (dot / D)[:, None]
        tl.store(p_dy + o_dy + o_half, (rstd * (grad1 - x1 * mean)).to(dtype), mask=m)
        tl.store(p_dy + o_dy + o_half + HALF, (rstd * (grad2 - x2 * mean)).to(dtype), mask=m)
    if WEIGHT_GRAD:
        p_row = p_partial + i_program * D
        o_first = tl.arange(0, BLOCK)
        tl.store(p_row + o_first, tl.sum(total_first, axis=0), mask=o_first < HALF)
        tl.store(p_row + o_first + HALF, tl.sum(total_second, axis=0), mask=o_first < HALF)
        if REST > 0:
            o_last = 2 * HALF + tl.arange(0, BLOCK_REST)
            tl.store(p_row + o_last, tl.sum(total_rest, axis=0), mask=o_last < D)


def rope_(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, positions: Tensor | None = None,
    inverse: bool = False,
) -> None:  # fmt: skip
    """Rotate q [T, Hq, D] and k [T, Hkv, D], any strides but the last, in place; one launch.

    `cos`, `sin`: contiguous [T, R / 2], or tables [P, R / 2] that `positions` [T] indexes.
    `inverse` turns by the negative angle: the backward, on dq and dk.
    """
    T, HQ, _ = q.shape
    HK, HALF = k.shape[1], cos.shape[-1]
    config = tuning.lookup("rope", f"rope_{tile(HQ * HALF)}", tuning.capability(q))
    rope_kernel[(-(-T // config["TOKENS"]),)](
        q, k, cos, sin, cos if positions is None else positions, T, q.stride(0), q.stride(1),
        k.stride(0), k.stride(1), POSITIONS=positions is not None, INVERSE=inverse, HQ=HQ, HK=HK,
        BLOCK_HQ=tile(HQ), BLOCK_HK=tile(HK), HALF=HALF, BLOCK=tile(HALF), **config,
    )  # fmt: skip


def rope_norm_forward(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor, k_weight: Tensor, *,
    eps: float, offset: float = 0.0, weight_fp32: bool = False, positions: Tensor | None = None,
    q_out: Tensor | None = None, k_out: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(q, k, rstd fp32 [T, Hq + Hkv]): each head normed, then rotated; outputs may be inputs."""
    q_out = torch.empty(q.shape, dtype=q.dtype, device=q.device) if q_out is None else q_out
    k_out = torch.empty(k.shape, dtype=k.dtype, device=k.device) if k_out is None else k_out
    T, HQ, D = q.shape
    HK = k.shape[1]
    rstd = torch.empty((T, HQ + HK), dtype=torch.float32, device=q.device)
    config = tuning.lookup("rope", f"norm_{tile(D)}", tuning.capability(q))
    tiles_q, tiles_k = (-(-T * heads // config["ROWS"]) for heads in (HQ, HK))
    rope_norm_forward_kernel[(tiles_q + tiles_k,)](
        q, q_out, q_weight, k, k_out, k_weight, cos, sin, cos if positions is None else positions,
        rstd, T, tiles_q, *q.stride()[:2], *q_out.stride()[:2], *k.stride()[:2],
        *k_out.stride()[:2], rstd.stride(0), eps, OFFSET=float(offset), WEIGHT_FP32=weight_fp32,
        POSITIONS=positions is not None, HQ=HQ, HK=HK, **_features(D, cos.shape[-1]), **config,
    )  # fmt: skip
    return q_out, k_out, rstd


def rope_norm_backward(
    dq: Tensor, dk: Tensor, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, q_weight: Tensor,
    k_weight: Tensor, rstd: Tensor, *, offset: float = 0.0, weight_fp32: bool = False,
    positions: Tensor | None = None, need_weight_grad: bool = False,
) -> tuple[Tensor | None, Tensor | None]:  # fmt: skip
    """Turn dq, dk (of the rotated) in place into those of q, k (before the norm).

    Returns the weights' gradients, fp32 [D], where asked for.
    """
    T, HQ, D = q.shape
    config = tuning.lookup("rope", f"norm_{tile(D)}", tuning.capability(q))
    sums: list[Tensor | None] = []
    for dy, x, weight, scale in (
        (dq, q, q_weight, rstd[:, :HQ]), (dk, k, k_weight, rstd[:, HQ:])
    ):  # fmt: skip
        HEADS = x.shape[1]
        tiles = -(-T * HEADS // config["ROWS"])
        chunk = config["ROWS"] * (max(1, -(-tiles // PARTIALS)) if need_weight_grad else 1)
        programs = -(-T * HEADS // chunk)
        partial = scale
        if need_weight_grad:
            partial = torch.empty((programs, D), dtype=torch.float32, device=x.device)
        rope_norm_backward_kernel[(programs,)](
            dy, x, cos, sin, cos if positions is None else positions, weight, scale, partial, T,
            chunk, dy.stride(0), dy.stride(1), x.stride(0), x.stride(1), scale.stride(0),
            OFFSET=float(offset), WEIGHT_FP32=weight_fp32, POSITIONS=positions is not None,
            WEIGHT_GRAD=need_weight_grad, HEADS=HEADS, **_features(D, cos.shape[-1]), **config,
        )  # fmt: skip
        sums.append(column_sum(partial) if need_weight_grad else None)
    return sums[0], sums[1]


def tile(size: int) -> int:
    """The power of two that holds `size`."""
    return triton.next_power_of_2(size)  # type: ignore[no-any-return]


def _features(D: int, HALF: int) -> dict[str, int]:
    rest = D - 2 * HALF
    return {"HALF": HALF, "BLOCK": tile(HALF), "REST": rest, "BLOCK_REST": tile(max(rest, 1))}


class Rope(torch.autograd.Function):
    """Rotation of copies; the gradient is turned back."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Save the angles alone."""
        q, k = (x.clone(memory_format=torch.contiguous_format) for x in (q, k))
        rope_(q, k, cos, sin, positions=positions)
        ctx.save_for_backward(cos, sin, positions)
        return q, k

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor | None, ...]:
        """The same kernel with the angle negated."""
        cos, sin, positions = ctx.saved_tensors
        dq, dk = (x.clone(memory_format=torch.contiguous_format) for x in (dq, dk))
        rope_(dq, dk, cos, sin, positions=positions, inverse=True)
        return dq, dk, None, None, None


class RopeNorm(torch.autograd.Function):
    """Norm and rotation in one kernel each way."""

    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, positions: Tensor | None,
        q_weight: Tensor, k_weight: Tensor, eps: float, offset: float, weight_fp32: bool,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Save q and k as they came, and the scales."""
        facts: dict[str, Any] = {"offset": offset, "weight_fp32": weight_fp32}
        q_out, k_out, rstd = rope_norm_forward(
            q, k, cos, sin, q_weight, k_weight, eps=eps, positions=positions, **facts
        )
        ctx.save_for_backward(q, k, cos, sin, positions, q_weight, k_weight, rstd)
        ctx.facts = facts
        return q_out, k_out

    @staticmethod
    def backward(ctx: Any, dq: Tensor, dk: Tensor) -> tuple[Tensor | None, ...]:
        """One launch for q and one for k; two more where the weights are trained."""
        q, k, cos, sin, positions, q_weight, k_weight, rstd = ctx.saved_tensors
        dq, dk = (x.clone(memory_format=torch.contiguous_format) for x in (dq, dk))
        sums = rope_norm_backward(
            dq, dk, q, k, cos, sin, q_weight, k_weight, rstd, positions=positions,
            need_weight_grad=ctx.needs_input_grad[5] or ctx.needs_input_grad[6], **ctx.facts,
        )  # fmt: skip
        dw = [None if s is None else s.to(q_weight.dtype) for s in sums]
        return dq, dk, None, None, None, dw[0], dw[1], None, None, None


def rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, positions: Tensor | None = None,
    q_weight: Tensor | None = None, k_weight: Tensor | None = None, eps: float = 1e-6,
    offset: float = 0.0, weight_fp32: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Rotated q [T, Hq, D] and k [T, Hkv, D]; with weights [D], each head is RMS-normed first.

    Args:
        q, k: the last axis contiguous.
        cos, sin: [T, R / 2] for the R leading features, or tables [P, R / 2] with `positions`.
        positions: integers [T], rows of the tables.
        q_weight, k_weight, eps, offset, weight_fp32: as of `rms_norm`; both weights or none.
    """
    unless = None
    if q.stride(-1) != 1 or k.stride(-1) != 1 or q.shape[-1] > WIDEST_HEAD:
        unless = f"heads must be contiguous and at most {WIDEST_HEAD} wide"
    if choose("rope", q, k, cos, sin, unless=unless).name != "kernel":
        return reference(
            q, k, cos, sin, positions=positions, q_weight=q_weight, k_weight=k_weight, eps=eps,
            offset=offset, weight_fp32=weight_fp32,
        )  # fmt: skip
    cos, sin = cos.contiguous(), sin.contiguous()
    if q_weight is None or k_weight is None:
        return Rope.apply(q, k, cos, sin, positions)  # type: ignore[no-any-return, no-untyped-call]
    return RopeNorm.apply(  # type: ignore[no-any-return, no-untyped-call]
        q, k, cos, sin, positions, q_weight, k_weight, eps, offset, weight_fp32
    )
