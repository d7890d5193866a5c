"""NF4 dequantisation reference (QLoRA's 4-bit NormalFloat with double quantisation).

    w[i] = code[q[i]] absmax[i / blocksize]
    absmax[b] = absmax_code[a[b]] nested_absmax[b / nested_blocksize] + offset   (double quant)

Two values a byte, the first one in the high four bits, row after row. Products in fp32, rounded
once. Dettmers et al. 2023, "QLoRA"; the layout is that of bitsandbytes.
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
