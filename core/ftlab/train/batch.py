"""A micro-batch on its device: padding-free, one flat token axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ftlab.data.batches import MicroBatch


@dataclass(frozen=True, slots=True)
class Batch:
    """What an objective sees. Sequences of a row lie beside each other, rows in the order of `rows`.

    `labels` holds the next token where it is trained, -100 elsewhere. `bounds` repeats `cu_seqlens`
    as plain numbers, so that nobody has to ask the device for them.
    """

    input_ids: Tensor  # int64 [T]
    position_ids: Tensor  # int64 [T]
    cu_seqlens: Tensor  # int32 [n + 1]
    labels: Tensor  # int64 [T]
    bounds: tuple[int, ...]  # n + 1
    rows: tuple[int, ...]  # store rows
    sequences_per_row: int

    @property
    def tokens(self) -> int:
        """Tokens of all sequences."""
        return self.bounds[-1]


def to_device(micro: MicroBatch, device: torch.device | str) -> Batch:
    """The tensors of `micro` on `device`; nothing waits for the copy."""

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    return Batch(
        input_ids=tensor(micro.input_ids),
        position_ids=tensor(micro.position_ids),
        cu_seqlens=tensor(micro.cu_seqlens),
        labels=tensor(micro.labels),
        bounds=tuple(micro.cu_seqlens.tolist()),
        rows=tuple(micro.rows.tolist()),
        sequences_per_row=micro.sequences_per_row,
    )
