"""NF4 weights in Triton: dequantisation in one launch, the doubly quantised absmax inside.

    w[i] = code[q[i]] absmax[i / blocksize]
    absmax[b] = absmax_code[a[b]] nested_absmax[b / nested_blocksize] + offset   (double quant)

Products in fp32, not fused with the addition, rounded once: bit for bit what bitsandbytes makes. A
thread reads 4 bytes and writes the 8 values of them. Dettmers et al. 2023, "QLoRA".
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.dispatch import choose
from ftlab_kernels.reference.nf4 import Nf4Weight
from ftlab_kernels.reference.nf4 import quantize_nf4 as reference_quantize
from ftlab_kernels.rows import row_stride

__all__ = ["Nf4Weight", "dequantize_nf4", "nf4_dequantize", "quantize_nf4"]
VALUES = 8  # of one 32-bit word


@triton.jit
def nf4_dequantize_kernel(
    p_packed, p_out, p_code, p_absmax, p_absmax_code, p_nested, offset, WORDS, stride_out,
    K: tl.constexpr, WORDS_BLOCK: tl.constexpr, NESTED_BLOCK: tl.constexpr, DOUBLE: tl.constexpr,
    CONTIGUOUS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program: BLOCK words of eight values."""
    o_word = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    m_word = o_word < WORDS
    word = tl.load(p_packed + o_word, mask=m_word, other=0)
    o_block = o_word // WORDS_BLOCK
    scale = tl.load(p_absmax + o_block, mask=m_word, other=0)
    if DOUBLE:
        nested = tl.load(p_nested + o_block // NESTED_BLOCK, mask=m_word, other=0.0)
        scale = (
            tl.load(p_absmax_code + scale.to(tl.int32), mask=m_word, other=0.0) * nested + offset
        )
    o_value = tl.arange(0, 8)[None, :]
    index = (word[:, None] >> ((o_value ^ 1) * 4)) & 15  # the first value is in a byte's high bits
    value = tl.load(p_code + index) * scale[:, None]
    o_flat = o_word[:, None] * 8 + o_value
    if CONTIGUOUS:
        p_value = p_out + o_flat
    elif K % 8 == 0:  # a word lies in one row
        o_row = o_word // (K // 8)
        p_value = p_out + (o_row * stride_out + (o_word % (K // 8)) * 8)[:, None] + o_value
    else:
        p_value = p_out + o_flat // K * stride_out + o_flat % K
    tl.store(p_value, value.to(p_out.dtype.element_ty), mask=m_word[:, None])


def nf4_dequantize(weight: Nf4Weight, *, out: Tensor) -> Tensor:
    """Write the weight into `out` [N, K], fp32, bf16 or fp16; its rows may be strided."""
    _, K = weight.shape
    double = weight.absmax_code is not None and weight.nested_absmax is not None
    words = weight.packed.view(-1).view(torch.int32)
    config = tuning.lookup("nf4", f"out_{out.element_size()}", tuning.capability(out))
    nf4_dequantize_kernel[(-(-words.numel() // config["BLOCK"]),)](
        words, out, weight.code, weight.absmax,
        weight.absmax_code if double else weight.code,
        weight.nested_absmax if double else weight.code, weight.offset, words.numel(),
        row_stride(out), K=K, WORDS_BLOCK=weight.blocksize // VALUES,
        NESTED_BLOCK=weight.nested_blocksize, DOUBLE=double, CONTIGUOUS=out.is_contiguous(),
        enable_fp_fusion=False, **config,
    )  # fmt: skip
    return out


def dequantize_nf4(weight: Nf4Weight, dtype: torch.dtype, *, out: Tensor | None = None) -> Tensor:
    """The weight [N, K] in `dtype`, into `out` (last axis contiguous) where given."""
    if out is None:
        out = torch.empty(weight.shape, dtype=dtype, device=weight.packed.device)
    if out.dtype != dtype or out.shape != weight.shape:
        raise ValueError(f"out is {tuple(out.shape)} {out.dtype}, not {weight.shape} {dtype}")
    if choose("dequantize_nf4", weight.packed, out, unless=_unless(weight)).name == "kernel":
        return nf4_dequantize(weight, out=out)
    return out.copy_(weight.dequantise(dtype))


def _unless(weight: Nf4Weight) -> str | None:
    packed = weight.packed
    if packed.numel() % 4 or packed.storage_offset() % 4 or not packed.is_contiguous():
        return "the packed bytes are no whole 32-bit words"
    if weight.blocksize % VALUES:
        return f"blocks of {weight.blocksize} values are no whole 32-bit words"
    return None


def quantize_nf4(weight: Tensor, *, double_quant: bool = True, blocksize: int = 64) -> Nf4Weight:
    """Quantise a weight [N, K] as bitsandbytes does on its device, bit for bit.

    Args:
        weight: fp32, bf16 or fp16, N K a multiple of `blocksize`.
        double_quant: quantise the blocks' absmax to 8 bits too.
        blocksize: values that share an absmax, a power of two from 32.
    """
    return reference_quantize(weight, double_quant=double_quant, blocksize=blocksize)
