"""Tokens of one micro-batch as the decoder takes them: sequences end to end on one axis.

On a GPU the axis is padded to one of few lengths, and the rows that reach the head to one of few
counts: work of the same shape is then the same launches, which a captured graph repeats. Padding is
a sequence of its own without labels; it is a function of the batch alone, so bits never depend on
whether a graph ran.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ftlab.planning.shapes import padded_rows, padded_tokens
from ftlab_kernels.reference.attention import Layout, layout
from ftlab_kernels.reference.linear_cross_entropy import IGNORED

_LEAST_CAPACITY = 8
_LONG = 512  # tokens of a sequence for which a library's kernel may be better
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Tokens:
    """One micro-batch. `labels` holds the next token where it is trained, -100 elsewhere.

    `cu_seqlens` are plain numbers, so that nobody has to wait for the device to learn them.
    """

    input_ids: Tensor  # int64 [T]
    position_ids: Tensor  # int64 [T], from 0 in every sequence
    labels: Tensor  # int64 [T]
    cu_seqlens: tuple[int, ...]  # n + 1 boundaries, from 0 to T, of the padding too
    picked: Tensor | None = None  # int64 [M], rows for the head; None: those with a label
    packed: Tensor | None = None  # int64 [3 T + M], of which all of these are views
    capacity: int | None = None  # sequences that attention's tables have room for; None: these

    @property
    def shape(self) -> tuple[object, ...]:
        """What a captured graph depends on: tokens, rows for the head, room for sequences."""
        rows = None if self.picked is None else len(self.picked)
        return len(self.input_ids), rows, self.capacity or self.cu_seqlens

    def plan(self) -> Layout:
        """Attention's layout of the sequences, on the device of the tokens."""
        return layout(self.cu_seqlens, self.input_ids.device, capacity=self.capacity)


def place(
    input_ids: Ints, position_ids: Ints, labels: Ints, bounds: list[int], device: torch.device
) -> Tokens:
    """Tokens on their device; padded where that is a GPU. Nothing waits for the copy.

    Args:
        input_ids, position_ids, labels: int64 [T].
        bounds: n + 1 boundaries of the sequences, from 0 to T.
    """
    if device.type == "cuda":
        return spread(*pad(input_ids, position_ids, labels, bounds), device)
    ids, positions, targets = (
        torch.from_numpy(np.ascontiguousarray(x)).to(device)
        for x in (input_ids, position_ids, labels)
    )
    return Tokens(ids, positions, targets, tuple(bounds))


def pad(
    input_ids: Ints, position_ids: Ints, labels: Ints, bounds: list[int]
) -> tuple[Ints, int, list[int]]:
    """Tokens to a length of `padded_tokens`, rows for the head to a count of `padded_rows`.

    Returns:
        int64 [3 T + M]: ids, positions, labels and picked rows; T; boundaries with the padding's.
    """
    tokens, rows = len(input_ids), np.flatnonzero(labels != IGNORED)
    whole = padded_tokens(tokens)
    picked = padded_rows(len(rows), whole)
    packed = np.zeros(3 * whole + picked, np.int64)
    packed[:tokens] = input_ids
    packed[whole : whole + tokens] = position_ids
    packed[whole + tokens : 2 * whole] = np.arange(whole - tokens)
    packed[2 * whole : 3 * whole] = IGNORED
    packed[2 * whole : 2 * whole + tokens] = labels
    # The last token has no next one, so no label: the head may see it any number of times.
    packed[3 * whole :] = whole - 1
    packed[3 * whole : 3 * whole + len(rows)] = rows
    return packed, whole, bounds if whole == tokens else [*bounds, whole]


def spread(packed: Ints, tokens: int, bounds: list[int], device: torch.device) -> Tokens:
    """What `pad` made, on its device: one copy."""
    held = torch.from_numpy(packed)
    if device.type == "cuda":
        held = held.pin_memory()
    return views(held.to(device, non_blocking=True), tokens, tuple(bounds), _capacity(bounds))


def _capacity(bounds: list[int]) -> int | None:
    """Room for sequences; None for few long ones of one length, which attention takes as such."""
    lengths = {end - start for start, end in pairwise(bounds)}
    if len(lengths) == 1 and min(lengths) >= _LONG:
        return None
    return max(_LEAST_CAPACITY, 1 << (len(bounds) - 2).bit_length())


def views(packed: Tensor, tokens: int, bounds: tuple[int, ...], capacity: int | None) -> Tokens:
    """The parts of `packed` [3 T + M] by name."""
    ids, positions, labels = packed[: 3 * tokens].view(3, tokens).unbind()
    return Tokens(ids, positions, labels, bounds, packed[3 * tokens :], packed, capacity)
