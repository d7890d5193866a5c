"""LoRA's skinny products in plain PyTorch: x A^T, dA, the masked part of dx, and dy B with dB.

What `lora_down` and `lora_up` compute, column layout and dropout masks included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ftlab_kernels.reference.dropout import dropout


class Columns(Protocol):
    """The part of `lora_layout.Columns` that is needed here."""

    @property
    def firsts(self) -> tuple[int, ...]:
        """First column of each target."""
        ...

    @property
    def ranks(self) -> tuple[int, ...]:
        """Rank of each target, 0 where there is no adapter."""
        ...

    @property
    def drops(self) -> tuple[float, ...]:
        """Dropout probability of each target."""
        ...

    @property
    def width(self) -> int:
        """Columns that targets take."""
        ...

    @property
    def ones(self) -> int:
        """The column of ones, -1 if there is none."""
        ...


def _targets(columns: Columns) -> Iterator[tuple[int, slice, float]]:
    """Number, columns and dropout of every target that has an adapter."""
    for i, (first, rank) in enumerate(zip(columns.firsts, columns.ranks, strict=True)):
        if rank:
            yield i, slice(first, first + rank), columns.drops[i]


def _dropped(x: Tensor, p: float, seeds: Tensor | None, target: int, first: int) -> Tensor:
    if seeds is None:
        return x
    return dropout(x, p, int(seeds[target]), first=first * x.shape[1])


def project(
    x: Tensor, a: Tensor, columns: Columns, seeds: Tensor | None, out: Tensor, first: int = 0
) -> Tensor:
    """u = d(x) A^T [T, P] with the column of ones; zeros elsewhere. `first`: row number of x[0]."""
    out.zero_()
    for i, place, p in _targets(columns):
        out[:, place] = _dropped(x, p, seeds, i, first) @ a[place].t()
    if columns.ones >= 0:
        out[:, columns.ones] = 1
    return out


def grad_a(v: Tensor, x: Tensor, columns: Columns, seeds: Tensor | None, first: int = 0) -> Tensor:
    """dA = v^T d(x) of every target in its columns: fp32 (fp64 for fp64) [width, K]."""
    wide = torch.promote_types(x.dtype, torch.float32)
    total = torch.zeros((columns.width, x.shape[1]), dtype=wide, device=x.device)
    for i, place, p in _targets(columns):
        total[place] = v[:, place].to(wide).t() @ _dropped(x, p, seeds, i, first).to(wide)
    return total


def add_masked(
    dx: Tensor, v: Tensor, a: Tensor, columns: Columns, seeds: Tensor, first: int = 0
) -> Tensor:
    """dx += d'(v A) of every target, in place."""
    wide = torch.promote_types(dx.dtype, torch.float32)
    total = dx.to(wide)
    for i, place, p in _targets(columns):
        product = v[:, place].to(wide) @ a[place].to(wide)
        total = total + dropout(product, p, int(seeds[i]), first=first * dx.shape[1])
    return dx.copy_(total)


def up(
    dy: Tensor, b: Tensor, u: Tensor, rows: Sequence[int], columns: Columns, v: Tensor
) -> Tensor:
    """v = dy (s B) into `v`; returns dB / s in fp32 (fp64 for fp64) [N, largest rank]."""
    wide = torch.promote_types(dy.dtype, torch.float32)
    v.zero_()
    grad = torch.zeros((dy.shape[1], max(columns.ranks)), dtype=wide, device=dy.device)
    for i, place, _ in _targets(columns):
        part = dy[:, rows[i] : rows[i + 1]]
        v[:, place] = part @ b[rows[i] : rows[i + 1], place]
        grad[rows[i] : rows[i + 1], : columns.ranks[i]] = part.to(wide).t() @ u[:, place].to(wide)
    return grad
