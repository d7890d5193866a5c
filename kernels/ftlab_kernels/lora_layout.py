"""Where the low-rank columns of a group of projections lie beside x, y and the weights.

The targets' ranks stand side by side, each from a multiple of 16 on, then one column of ones if a
base has a bias; the whole is padded to a multiple of 64, so that every row of a widened buffer
keeps the alignment that matrix products want. Fixed by the ranks alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

TARGETS = 3  # the most projections that share an input: q, k and v
UNIT, PAD = 16, 64


def _up(n: int, unit: int) -> int:
    return -(-n // unit) * unit


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of each target; rank 0 where there is no adapter."""

    firsts: tuple[int, ...]
    ranks: tuple[int, ...]
    drops: tuple[float, ...]  # dropout probability of each target
    width: int  # columns that targets take, a multiple of 16
    ones: int  # the column of ones, -1 if no base has a bias
    pad: int  # columns there are: a multiple of 64, or 0

    @property
    def lasts(self) -> tuple[int, ...]:
        """Where the columns of each target end, those that fill up its multiple of 16 too."""
        return tuple(f + _up(r, UNIT) for f, r in zip(self.firsts, self.ranks, strict=True))

    @property
    def drops_any(self) -> bool:
        """Whether any target has dropout."""
        return any(self.drops)

    def of(self, target: int) -> slice:
        """The columns of one target's rank."""
        return slice(self.firsts[target], self.firsts[target] + self.ranks[target])


def columns(ranks: Sequence[int], drops: Sequence[float], bias: bool) -> Columns:
    """The layout of targets with these ranks (0: no adapter) and dropout probabilities.

    Raises ValueError for more than three targets, a negative rank or p outside [0, 1).
    """
    if not 1 <= len(ranks) <= TARGETS:
        raise ValueError(f"{len(ranks)} projections share an input, expected 1 to {TARGETS}")
    for rank, drop in zip(ranks, drops, strict=True):
        if rank < 0 or not 0 <= drop < 1:
            raise ValueError(f"rank {rank} with dropout {drop}: expected r >= 0 and 0 <= p < 1")
    firsts, width = [], 0
    for rank in ranks:
        firsts.append(width)
        width += _up(rank, UNIT)
    used = tuple(drop if rank else 0.0 for rank, drop in zip(ranks, drops, strict=True))
    ones = width if bias else -1
    return Columns(tuple(firsts), tuple(ranks), used, width, ones, _up(width + bias, PAD))


def padded(values: Sequence[float], fill: float = 0) -> list[float]:
    """The values of each target, filled up to three: what a kernel takes as arguments."""
    return [*values, *[fill] * (TARGETS - len(values))]


def runs_here(tensor: Tensor) -> bool:
    """Whether a kernel can run on this tensor: on a GPU, or anywhere in Triton's interpreter."""
    return tensor.is_cuda or os.environ.get("TRITON_INTERPRET") == "1"


def precision(dtype: torch.dtype) -> str:
    """`input_precision` of a product: fp32 stays fp32."""
    return "ieee" if dtype == torch.float32 else "tf32"
