"""LayerNorm reference: y = weight (x - mean) / sqrt(var + eps) + bias, statistics in fp32.

Ba, Kiros and Hinton 2016, "Layer Normalization".
"""

from __future__ import annotations

import torch
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None, eps: float) -> Tensor:
    """Normalise the last axis of `x` [..., H]; `weight` and `bias` are [H]. Keeps x's dtype."""
    wide = torch.promote_types(x.dtype, torch.float32)
    values = x.to(wide)
    centred = values - values.mean(-1, keepdim=True)
    normed = centred * torch.rsqrt(centred.pow(2).mean(-1, keepdim=True) + eps)
    scaled = normed * weight.to(wide)
    return (scaled if bias is None else scaled + bias.to(wide)).to(x.dtype)
