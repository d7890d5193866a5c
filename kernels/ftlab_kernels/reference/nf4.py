"""NF4 reference (QLoRA's 4-bit NormalFloat with double quantisation), both ways.

    w[i] = code[q[i]] absmax[i / blocksize]
    absmax[b] = absmax_code[a[b]] nested_absmax[b / nested_blocksize] + offset   (double quant)

Two values a byte, the first one in the high four bits, row after row. Products in fp32, rounded
once. The quantiser follows bitsandbytes on each device, whose two paths differ: see `quantize_nf4`.
Dettmers et al. 2023, "QLoRA"; the layout is that of bitsandbytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Nf4Weight:
    """A weight [N, K] in 4 bits. `absmax` is fp32, or uint8 where it is quantised itself."""

    packed: Tensor  # uint8, N K / 2 values
    shape: tuple[int, int]
    code: Tensor  # fp32 [16]
    absmax: Tensor  # [blocks]
    blocksize: int
    absmax_code: Tensor | None = None  # fp32 [256]
    nested_absmax: Tensor | None = None  # fp32 [blocks / nested_blocksize]
    nested_blocksize: int = 256
    offset: float = 0.0

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K] in `dtype`."""
        packed = self.packed.reshape(-1)
        indices = torch.stack((packed >> 4, packed & 15), dim=1).reshape(-1).long()
        values = self.code[indices].view(-1, self.blocksize)
        return (values * self._scales()[:, None]).to(dtype).view(self.shape)

    def _scales(self) -> Tensor:
        if self.absmax_code is None or self.nested_absmax is None:
            return self.absmax
        blocks = self.absmax.numel()
        nested = self.nested_absmax.repeat_interleave(self.nested_blocksize)[:blocks]
        return self.absmax_code[self.absmax.long()] * nested + self.offset


CODE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
)  # fmt: skip
NESTED_BLOCKSIZE = 256
CHUNK = 1 << 24  # values whose fp32 copies exist at once


def quantize_nf4(weight: Tensor, *, double_quant: bool = True, blocksize: int = 64) -> Nf4Weight:
    """Quantise a weight [N, K] as bitsandbytes does on the weight's device.

    Each block is divided by its largest magnitude, each value becomes the nearest code value. For
    the 8-bit absmax bitsandbytes looks that up on the CPU in a table of 65,536 equal cells, so
    there it is the value nearest to the cell's centre; on CUDA it searches the code itself.

    Raises:
        ValueError: N K is no multiple of `blocksize`, or that is not a power of two from 32.
    """
    if blocksize < 32 or blocksize & (blocksize - 1) or weight.numel() % blocksize:
        raise ValueError(
            f"blocksize is {blocksize}; it must be a power of two from 32 that divides the "
            f"{weight.numel()} values"
        )
    code = torch.tensor(CODE, dtype=torch.float32, device=weight.device)
    flat = weight.detach().reshape(-1)
    chunks = [_quantise(part, code, blocksize) for part in torch.split(flat, CHUNK)]
    packed = torch.cat([chunk[0] for chunk in chunks]).unsqueeze(1)
    absmax = torch.cat([chunk[1] for chunk in chunks])
    shape = (weight.shape[0], weight.shape[1])
    if not double_quant:
        return Nf4Weight(packed, shape, code, absmax, blocksize)
    offset = absmax.mean()
    absmax_code = dynamic_code().to(weight.device)
    indices, nested = _quantise_absmax(absmax - offset, absmax_code)
    return Nf4Weight(
        packed,
        shape,
        code,
        indices,
        blocksize,
        absmax_code,
        nested,
        NESTED_BLOCKSIZE,
        float(offset),
    )


def dynamic_code() -> Tensor:
    """The 256 values of the dynamic 8-bit type, rising (Dettmers et al. 2022, 8-bit optimizers).

    Seven decades; each has twice the values of the decade below, both signs; and 0 and 1.
    """
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2**decade + 1, dtype=torch.float32)
        means = (edges[:-1] + edges[1:]) / 2.0
        values += (10 ** (decade - 6) * means).tolist()
        values += (-(10 ** (decade - 6)) * means).tolist()
    return torch.tensor(sorted(values), dtype=torch.float32)


def _quantise(values: Tensor, code: Tensor, blocksize: int) -> tuple[Tensor, Tensor]:
    """Bytes of pairs, and the largest magnitude of each block."""
    blocks = values.float().view(-1, blocksize)
    absmax = blocks.abs().amax(-1)
    scaled = blocks * (1.0 / absmax.clamp(min=1e-38))[:, None]
    middles = (code[:-1] + code[1:]) / 2
    indices = torch.bucketize(scaled.view(-1).clamp(-1, 1), middles, out_int32=True)
    indices = indices.to(torch.uint8)
    return (indices[::2] << 4) | indices[1::2], absmax


def _quantise_absmax(values: Tensor, code: Tensor) -> tuple[Tensor, Tensor]:
    """8-bit indices, and the largest magnitude of each 256 values."""
    count = values.numel()
    padded = torch.nn.functional.pad(values, (0, -count % NESTED_BLOCKSIZE))
    blocks = padded.view(-1, NESTED_BLOCKSIZE)
    absmax = blocks.abs().amax(-1)
    scaled = (blocks * (1.0 / absmax)[:, None]).view(-1)[:count].clamp(-1.0, 1.0)
    if values.device.type == "cpu":
        scaled = ((scaled + 1) * 32767.5 + 0.5).to(torch.int32) / 32767.5 - 1
    indices = torch.bucketize(scaled, (code[:-1] + code[1:]) / 2)
    indices = torch.where(scaled.isnan(), torch.zeros_like(indices), indices)
    return indices.to(torch.uint8), absmax
