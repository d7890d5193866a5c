"""int8 weight dequantisation reference: w[n, k] = q[n, k] absmax[n] / 127, one scale a row.

Only the weight is 8-bit; activations stay as they are. The layout is that of bitsandbytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Int8Weight:
    """A weight [N, K] in 8 bits with the largest magnitude of each row."""

    values: Tensor  # int8 [N, K]
    absmax: Tensor  # fp32 [N]

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K] in `dtype`."""
        return (self.values.to(torch.float32) * (self.absmax[:, None] / 127)).to(dtype)
