"""Clipping by the global norm, reference.

    n = sqrt(sum of all g^2),  g = g min(1, max_norm / (n + 1e-6))

The norm is taken in fp32 whatever the gradients' dtypes. Pascanu et al. 2013; the 1e-6 is torch's.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPS = 1e-6


def global_norm_clip(grads: Sequence[Tensor], max_norm: float | None) -> Tensor:
    """Scale `grads` in place; returns their norm before that, an fp32 scalar on their device.

    Raises:
        ValueError: no gradients.
    """
    if not grads:
        raise ValueError("there are no gradients")
    norm = torch.stack([grad.detach().float().square().sum() for grad in grads]).sum().sqrt()
    if max_norm is not None:
        scale = (max_norm / (norm + EPS)).clamp(max=1.0)
        for grad in grads:
            grad.detach().copy_(grad.float() * scale)
    return norm
