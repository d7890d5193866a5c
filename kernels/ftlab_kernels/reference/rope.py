"""Rotary position embedding reference, the half-split form of Llama.

    [y1, y2] = [x1 cos - x2 sin, x2 cos + x1 sin],   x1, x2 = halves of the rotated features

Features beyond the rotated ones pass through (Phi). Su et al. 2021, "RoFormer".
"""

from __future__ import annotations

import torch
from torch import Tensor


def rope(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate queries and keys.

    Args:
        q: [T, Hq, D], k: [T, Hkv, D].
        cos, sin: [T, R / 2] for the R leading features that are rotated, in q's dtype.

    Returns:
        rotated q and k, same shapes and dtypes.
    """
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    first, second, rest = torch.split(x, [half, half, x.shape[-1] - 2 * half], dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)
