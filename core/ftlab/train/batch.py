"""A micro-batch on its device: one flat token axis, and which rows of the store lie on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ftlab.models.tokens import Tokens, place

if TYPE_CHECKING:
    from ftlab.data.batches import MicroBatch


@dataclass(frozen=True, slots=True)
class Batch:
    """What an objective sees. Sequences of a row lie beside each other, in the order of `rows`."""

    tokens: Tokens
    lengths: tuple[int, ...]  # tokens of each sequence, padding left out
    rows: tuple[int, ...]  # store rows
    sequences_per_row: int


def to_device(micro: MicroBatch, device: torch.device | str) -> Batch:
    """The tensors of `micro` on `device`; nothing waits for the copy."""
    bounds = micro.cu_seqlens.tolist()
    made = place(micro.input_ids, micro.position_ids, micro.labels, bounds, torch.device(device))
    return Batch(
        tokens=made,
        lengths=tuple((micro.cu_seqlens[1:] - micro.cu_seqlens[:-1]).tolist()),
        rows=tuple(micro.rows.tolist()),
        sequences_per_row=micro.sequences_per_row,
    )
