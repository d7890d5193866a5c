"""dk and dv from parts that programs made for fewer query heads than share a key head.

    dk[t, h] = sum over g of part[t, h G + g],  dv likewise

With few key heads the tiles of keys are too few for a card: each would walk the queries of all its
heads while most multiprocessors have nothing left to do. So each query head has its own program,
whose fp32 part is added here in the order of the heads.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

PLACES = 264  # programs of the key kernel that an H100 runs at one time
MOST_BYTES = 64 << 20  # written and read again for parts: beyond, they cost what they save
BLOCK = 1024


@triton.jit
def sum_heads_kernel(
    p_k, p_v, p_dk, p_dv, N, s_dkt, s_dkh, s_dvt, s_dvh,
    GROUP: tl.constexpr, KV: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK values of dk and of dv; p_k, p_v fp32 [T, KV * GROUP, D]."""
    o = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m = o < N
    o_head, o_d = o // D, o % D
    o_part = o_head * (GROUP * D) + o_d
    dk = tl.zeros((BLOCK,), dtype=tl.float32)
    dv = tl.zeros((BLOCK,), dtype=tl.float32)
    for g in tl.static_range(GROUP):
        dk += tl.load(p_k + o_part + g * D, mask=m, other=0.0)
        dv += tl.load(p_v + o_part + g * D, mask=m, other=0.0)
    o_t, o_kv = o_head // KV, o_head % KV
    tl.store(p_dk + o_t * s_dkt + o_kv * s_dkh + o_d, dk.to(p_dk.dtype.element_ty), mask=m)
    tl.store(p_dv + o_t * s_dvt + o_kv * s_dvh + o_d, dv.to(p_dv.dtype.element_ty), mask=m)


def heads_of_program(q: Tensor, kv_heads: int, block: int) -> int:
    """Query heads whose sum one program of the key kernel makes: a whole group, or one.

    From shapes alone, and not from a batch's lengths, which a captured graph must not hold.
    """
    T, H, D = q.shape
    programs = kv_heads * triton.cdiv(T, block)
    apart = programs < PLACES and 16 * T * H * D <= MOST_BYTES
    return 1 if apart else H // kv_heads


def parts(k: Tensor, q_heads: int) -> tuple[Tensor, Tensor]:
    """Room for the parts of dk and of dv, fp32 [T, Hq, D]."""
    shape = (k.shape[0], q_heads, k.shape[2])
    dk, dv = (torch.empty(shape, dtype=torch.float32, device=k.device) for _ in range(2))
    return dk, dv


def sum_heads(part_k: Tensor, part_v: Tensor, dk: Tensor, dv: Tensor) -> None:
    """Write dk and dv [T, Hkv, D], any strides but the last, from their parts [T, Hq, D]."""
    N, KV = dk.numel(), dk.shape[1]
    sum_heads_kernel[(triton.cdiv(N, BLOCK),)](
        part_k, part_v, dk, dv, N, *dk.stride()[:2], *dv.stride()[:2],
        GROUP=part_k.shape[1] // KV, KV=KV, D=dk.shape[2], BLOCK=BLOCK, num_warps=4,
    )  # fmt: skip
