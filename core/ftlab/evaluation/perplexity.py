"""Perplexity over fixed batches: exp of the mean cross-entropy of every trained token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ftlab.data.batches import MicroBatch
from ftlab.train.batch import to_device

if TYPE_CHECKING:
    from ftlab.models.engine import Decoder


@dataclass(frozen=True, slots=True)
class Perplexity:
    """Mean cross-entropy in nats per token, its exponential, and the tokens behind it."""

    loss: float
    perplexity: float
    tokens: int


def perplexity(model: Decoder, micros: Iterable[MicroBatch]) -> Perplexity:
    """Measure `model` on `micros`, in their order; sums are kept in fp64.

    Raises:
        ValueError: no token carries a label.
    """
    total, tokens = 0.0, 0
    model.eval_mode()
    with torch.no_grad():
        for micro in micros:
            batch = to_device(micro, model.device)
            total += float(model.losses(batch.tokens).double().sum())
            tokens += int((micro.labels != -100).sum())
    if not tokens:
        raise ValueError("perplexity needs at least one token that carries a label")
    loss = total / tokens
    return Perplexity(loss, math.exp(min(loss, 700.0)), tokens)


def windows(tokens: Sequence[int], length: int) -> Iterator[MicroBatch]:
    """`tokens` cut into windows of `length` that do not overlap, one micro-batch each.

    In each window every token but the first is predicted. A last window of one token is left out.
    """
    for number, start in enumerate(range(0, len(tokens) - 1, length)):
        ids = np.asarray(tokens[start : start + length], dtype=np.int64)
        yield MicroBatch(
            input_ids=ids,
            position_ids=np.arange(len(ids), dtype=np.int64),
            cu_seqlens=np.asarray([0, len(ids)], dtype=np.int32),
            labels=np.append(ids[1:], -100),
            rows=np.asarray([number], dtype=np.int64),
            sequences_per_row=1,
        )
