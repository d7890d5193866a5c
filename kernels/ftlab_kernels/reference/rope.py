"""Rotary position embedding reference, the half-split form of Llama.

    [y1, y2] = [x1 cos - x2 sin, x2 cos + x1 sin],   x1, x2 = halves of the rotated features

Features beyond the rotated ones pass through (Phi). Su et al. 2021, "RoFormer".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab_kernels.reference.rms_norm import rms_norm


def rope(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *, positions: Tensor | None = None,
    q_weight: Tensor | None = None, k_weight: Tensor | None = None, eps: float = 1e-6,
    offset: float = 0.0, weight_fp32: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Rotate queries and keys.

    Args:
        q: [T, Hq, D], k: [T, Hkv, D].
        cos, sin: [T, R / 2] for the R leading features that are rotated, in q's dtype.
        positions: integers [T]; cos and sin are then tables [P, R / 2] and these their rows.
        q_weight, k_weight: [D]; each head is RMS-normed with them first (both or none).
        eps, offset, weight_fp32: as of `rms_norm`.

    Returns:
        rotated q and k, same shapes and dtypes.
    """
    if (q_weight is None) != (k_weight is None):
        raise ValueError("q_weight and k_weight go together: one of them is None")
    if q_weight is not None and k_weight is not None:
        q = rms_norm(q, q_weight, eps, offset, weight_fp32=weight_fp32)
        k = rms_norm(k, k_weight, eps, offset, weight_fp32=weight_fp32)
    if positions is not None:
        cos, sin = cos[positions], sin[positions]
    return _rotate(q, cos, sin), _rotate(k, cos, sin)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = cos.shape[-1]
    first, second, rest = torch.split(x, [half, half, x.shape[-1] - 2 * half], dim=-1)
    cos, sin = cos[:, None], sin[:, None]
    return torch.cat((first * cos - second * sin, second * cos + first * sin, rest), dim=-1)
