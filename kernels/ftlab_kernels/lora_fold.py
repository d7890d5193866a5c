"""Weights of a group in one buffer with their adapters in its margins, ready for folded products.

           K          P
    N  [   W   |  s B, bias ]       y  = [x | d(x) A^T | 1] [W | s B | bias]^T
    P  [   A   |            ]       dx = [dy | dy s B] [W ; A]

Quantised weights are expanded straight into the buffer; A, B and bias are cast to its dtype, each
target's in its own columns, zeros elsewhere. The corner is not used.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels.lora_group import LoraGroup
from ftlab_kernels.lora_layout import TARGETS, padded, runs_here
from ftlab_kernels.nf4 import nf4_dequantize
from ftlab_kernels.reference.nf4 import Nf4Weight


@triton.jit
def _margin_kernel(
    p_out, p_a0, p_a1, p_a2, p_b0, p_b1, p_b2, p_bias0, p_bias1, p_bias2, N, K, s_out, ones, pad,
    row0, row1, row2, row3, first0, first1, first2, rank0, rank1, rank2, scale0, scale1, scale2,
    bias0, bias1, bias2, programs_b,
    COUNT: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """The first `programs_b` programs of axis 0 write B and bias, the others A; axis 1: columns."""
    i = tl.program_id(0)
    o_c = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    if i < programs_b:
        o_n = (i * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
        value = tl.zeros((BLOCK_N, BLOCK_C), dtype=tl.float32)
        for g in tl.static_range(COUNT):
            if g == 0:
                p_b, p_bias, row, end, first = p_b0, p_bias0, row0, row1, first0
                rank, scale, biased = rank0, scale0, bias0
            elif g == 1:
                p_b, p_bias, row, end, first = p_b1, p_bias1, row1, row2, first1
                rank, scale, biased = rank1, scale1, bias1
            else:
                p_b, p_bias, row, end, first = p_b2, p_bias2, row2, row3, first2
                rank, scale, biased = rank2, scale2, bias2
            m_n = (o_n >= row) & (o_n < end)
            m_c = (o_c >= first) & (o_c < first + rank)
            p_bs = p_b + (o_n - row)[:, None] * rank + (o_c - first)[None, :]
            b = tl.load(p_bs, mask=m_n[:, None] & m_c[None, :], other=0.0).to(tl.float32)
            bias = tl.load(p_bias + o_n - row, mask=m_n & (biased > 0), other=0.0).to(tl.float32)
            value += b * scale + tl.where((o_c == ones)[None, :], bias[:, None], 0.0)
        p_outs = p_out + o_n[:, None] * s_out + K + o_c[None, :]
        m_out = (o_n < N)[:, None] & (o_c < pad)[None, :]
        tl.store(p_outs, value.to(p_out.dtype.element_ty), mask=m_out)
    else:
        o_k = (i - programs_b) * BLOCK_K + tl.arange(0, BLOCK_K)
        m_k = o_k < K
        a = tl.zeros((BLOCK_C, BLOCK_K), dtype=tl.float32)
        for t in tl.static_range(COUNT):
            if t == 0:
                p_a, begin, r = p_a0, first0, rank0
            elif t == 1:
                p_a, begin, r = p_a1, first1, rank1
            else:
                p_a, begin, r = p_a2, first2, rank2
            m_a = ((o_c >= begin) & (o_c < begin + r))[:, None] & m_k[None, :]
            p_as = p_a + (o_c - begin)[:, None].to(tl.int64) * K + o_k[None, :]
            a += tl.load(p_as, mask=m_a, other=0.0).to(tl.float32)
        p_rows = p_out + (N + o_c)[:, None].to(tl.int64) * s_out + o_k[None, :]
        m_rows = (o_c < pad)[:, None] & m_k[None, :]
        tl.store(p_rows, a.to(p_out.dtype.element_ty), mask=m_rows)


def folded(
    group: LoraGroup, dtype: torch.dtype, device: torch.device, buffer: Tensor | None
) -> Tensor:
    """The buffer [N + P, K + P] of a group: its own, or `buffer` (any shape) filled anew."""
    held = group.folded
    if held is None:
        shape = group.buffer_shape()
        if buffer is None:
            buffer = torch.empty(shape, dtype=dtype, device=device)
        held = buffer.view(-1)[: shape[0] * shape[1]].view(shape)
        expand(group, held)
    if group.pad:
        write_margins(group, held)
    return held


def expand(group: LoraGroup, buffer: Tensor) -> None:
    """Every weight of the group into its rows of the buffer."""
    for target, linear in enumerate(group.linears):
        place = buffer[group.part(target), : group.K]
        weight = linear.weight
        if isinstance(weight, Tensor):
            place.copy_(weight)
        elif isinstance(weight, Nf4Weight) and runs_here(place):
            nf4_dequantize(weight, out=place)
        else:
            place.copy_(weight.dequantise(buffer.dtype))


def write_margins(group: LoraGroup, buffer: Tensor) -> None:
    """A, s B and bias of every target into the margins of the buffer."""
    N, K, columns = group.N, group.K, group.columns
    if not runs_here(buffer):
        _write_margins(group, buffer)
        return
    adapters = [linear.adapter for linear in group.linears]
    a = [buffer if one is None else one.a.detach() for one in adapters]
    b = [buffer if one is None else one.b.detach() for one in adapters]
    biases = [buffer if one.bias is None else one.bias.detach() for one in group.linears]
    fill = [buffer] * (TARGETS - len(adapters))
    rows = [*group.rows, *[N] * len(fill)]
    scales = [0.0 if one is None else float(one.scaling) for one in adapters]
    biased = [int(one.bias is not None and columns.ones >= 0) for one in group.linears]
    programs_b = triton.cdiv(N, 64)
    grid = (programs_b + triton.cdiv(K, 256), triton.cdiv(columns.pad, 32))
    _margin_kernel[grid](
        buffer, *a, *fill, *b, *fill, *biases, *fill, N, K, buffer.stride(0), columns.ones,
        columns.pad, *rows, *padded(columns.firsts), *padded(columns.ranks), *padded(scales, 0.0),
        *padded(biased), programs_b,
        COUNT=len(adapters), BLOCK_N=64, BLOCK_C=32, BLOCK_K=256, num_warps=4,
    )  # fmt: skip


def _write_margins(group: LoraGroup, buffer: Tensor) -> None:
    N, K, columns = group.N, group.K, group.columns
    buffer[:N, K:] = 0
    buffer[N:, :K] = 0
    for target, linear in enumerate(group.linears):
        rows, place = group.part(target), columns.of(target)
        if linear.adapter is not None:
            buffer[rows, K + place.start : K + place.stop] = (
                linear.adapter.b * linear.adapter.scaling
            )
            buffer[N + place.start : N + place.stop, :K] = linear.adapter.a
        if linear.bias is not None and columns.ones >= 0:
            buffer[rows, K + columns.ones] = linear.bias.to(buffer.dtype)
