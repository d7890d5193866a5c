"""A micro-batch on its device: padding-free, one flat token axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from ftlab.data.batches import MicroBatch


@dataclass(frozen=True, slots=True)
class Batch:
    """What an objective sees. Sequences of a row lie beside each other, in the order of `rows`.

    `labels` holds the next token where it is trained, -100 elsewhere. `cu_seqlens` are plain
    numbers, so that nobody has to wait for the device to learn them.
    """

    input_ids: Tensor  # int64 [T]
    position_ids: Tensor  # int64 [T]
    cu_seqlens: tuple[int, ...]  # n + 1 boundaries, from 0 to T
    labels: Tensor  # int64 [T]
    rows: tuple[int, ...]  # store rows
    sequences_per_row: int


def to_device(micro: MicroBatch, device: torch.device | str) -> Batch:
    """The tensors of `micro` on `device`; nothing waits for the copy."""

    def tensor(array: np.ndarray[Any, Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    return Batch(
        input_ids=tensor(micro.input_ids),
        position_ids=tensor(micro.position_ids),
        cu_seqlens=tuple(micro.cu_seqlens.tolist()),
        labels=tensor(micro.labels),
        rows=tuple(micro.rows.tolist()),
        sequences_per_row=micro.sequences_per_row,
    )
