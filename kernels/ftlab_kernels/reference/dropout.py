"""Dropout reference whose mask is a function of (seed, element): nothing to save or restore.

    keep[e] = philox_uniform(seed, e) >= p,    y = keep x / (1 - p)

e is the element's flat index. A layer recomputed in the backward pass gets the same mask.
Srivastava et al. 2014, "Dropout".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab_kernels.reference.philox import uniform

PERIOD = 1 << 32  # elements, after which counters repeat


def dropout(x: Tensor, p: float, seed: int, *, first: int = 0) -> Tensor:
    """Zero a share `p` of x and scale the rest up.

    Args:
        x: any shape, fewer than 2^32 elements.
        p: share that is zeroed, 0 <= p < 1.
        seed: 64-bit key, another one for each call site and step (`philox.mix`).
        first: flat index of the first element where x is a part of something larger; the mask
            comes round after 2^32.

    Raises ValueError for p outside [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"dropout probability is {p}, expected 0 <= p < 1")
    if p == 0:
        return x
    keep = (_drawn(seed, first, x.numel(), x.device) >= p).view(x.shape)
    return torch.where(keep, x * (1 / (1 - p)), torch.zeros((), dtype=x.dtype, device=x.device))


def _drawn(seed: int, first: int, count: int, device: torch.device) -> Tensor:
    start = first % PERIOD
    head = min(count, PERIOD - start)
    drawn = uniform(seed, head, start=start, device=device)
    if head == count:
        return drawn
    return torch.cat((drawn, uniform(seed, count - head, device=device)))
