"""Projections that read the same input, with their adapters: what the LoRA operators work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ftlab_kernels.lora_layout import Columns, columns
from ftlab_kernels.reference.frozen_linear import FrozenWeight


@dataclass(frozen=True, slots=True)
class Adapter:
    """LoRA or DoRA of one projection."""

    a: Tensor  # [r, K], any floating dtype
    b: Tensor  # [N, r]
    scaling: float  # alpha / r, or alpha / sqrt r with rsLoRA
    dropout: float = 0.0
    magnitude: Tensor | None = None  # [N] for DoRA


@dataclass(frozen=True, slots=True)
class Linear:
    """A frozen base projection and its adapter, if it has one."""

    weight: Tensor | FrozenWeight  # [N, K]
    bias: Tensor | None = None
    adapter: Adapter | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """[N, K]."""
        known = getattr(self.weight, "shape", None)
        if known is None:
            known = self.weight.values.shape  # type: ignore[union-attr]
        return int(known[0]), int(known[1])


@dataclass(frozen=True, slots=True)
class LoraGroup:
    """One to three projections that read the same x, as one product.

    `folded` is the buffer [N + P, K + P] of `fold_weights` that already holds 16-bit weights.
    """

    linears: tuple[Linear, ...]
    folded: Tensor | None = None
    K: int = field(init=False)
    N: int = field(init=False)
    rows: tuple[int, ...] = field(init=False)  # boundaries of the projections on N
    columns: Columns = field(init=False)

    def __post_init__(self) -> None:
        """Derive the layout. Raises ValueError where the projections cannot share an input."""
        shapes = [linear.shape for linear in self.linears]
        if len({K for _, K in shapes}) != 1:
            raise ValueError(f"projections of shapes {shapes} do not share an input")
        adapters = [linear.adapter for linear in self.linears]
        ranks = [adapter.a.shape[0] if adapter else 0 for adapter in adapters]
        drops = [adapter.dropout if adapter else 0.0 for adapter in adapters]
        # DoRA scales the product but not the bias, so there the bias is added afterwards.
        bias = not self.dora and any(linear.bias is not None for linear in self.linears)
        rows = tuple(accumulate((N for N, _ in shapes), initial=0))
        for name, value in (
            ("K", shapes[0][1]), ("N", rows[-1]), ("rows", rows),
            ("columns", columns(ranks, drops, bias)),
        ):  # fmt: skip
            object.__setattr__(self, name, value)

    @property
    def dora(self) -> bool:
        """Whether any adapter has a magnitude."""
        return any(one.adapter and one.adapter.magnitude is not None for one in self.linears)

    @property
    def adapted(self) -> bool:
        """Whether there is any adapter."""
        return any(one.adapter for one in self.linears)

    @property
    def pad(self) -> int:
        """P: columns that widened x and dy carry beyond K and N."""
        return self.columns.pad

    def buffer_shape(self) -> tuple[int, int]:
        """Shape of the buffer that holds weights, B beside them and A below them."""
        return self.N + self.pad, self.K + self.pad

    def part(self, target: int) -> slice:
        """The features of one projection on N."""
        return slice(self.rows[target], self.rows[target + 1])


def fold_weights(weights: Sequence[Tensor], pad: int) -> tuple[Tensor, list[Tensor]]:
    """Dense weights [N_i, K] in one buffer [N + P, K + P], and views of each in it."""
    K = weights[0].shape[1]
    rows = list(accumulate((len(weight) for weight in weights), initial=0))
    buffer = torch.zeros(
        (rows[-1] + pad, K + pad), dtype=weights[0].dtype, device=weights[0].device
    )
    views = [buffer[a:b, :K] for a, b in pairwise(rows)]
    for view, weight in zip(views, weights, strict=True):
        view.copy_(weight)
    return buffer, views
