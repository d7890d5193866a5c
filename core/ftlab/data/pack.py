"""Lay the rows of each optimizer step into micro-batches; which rows a step has never changes.

Packing on: first-fit decreasing. The rows of a step, longest first (equal lengths in their order),
go each into the first micro-batch with room. Packing off: a fixed number of rows each. Sequences
are never cut or joined: a micro-batch is a list of sequences with boundaries, so attention cannot
cross from one to another.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
_CELLS = 1 << 22  # rows of a block of steps that are packed at once


def first_fit_decreasing(lengths: Array, capacity: int) -> Array:
    """Assign the rows of many steps to bins, all steps at once.

    Args:
        lengths: int64 [S, B], tokens of each row of each step; -1 where a step has no row.
        capacity: tokens a bin holds; no row may be longer.

    Returns:
        int64 [S, B], the bin of each row counted from 0 within its step; -1 where there is no row.

    Raises:
        ValueError: a row is longer than `capacity`.
    """
    lengths = np.asarray(lengths, np.int64)
    if lengths.size and int(lengths.max()) > capacity:
        raise ValueError(f"a row of {int(lengths.max())} tokens does not fit into {capacity}")
    order = np.argsort(-lengths, axis=1, kind="stable")
    falling = np.take_along_axis(lengths, order, axis=1)
    placed = np.full(lengths.shape, -1, np.int64)
    steps = np.arange(len(lengths))
    room = np.full((len(lengths), 1), capacity, np.int64)
    for rank in range(lengths.shape[1]):
        size = falling[:, rank]
        first = np.argmax(room >= size[:, None], axis=1)
        present = size >= 0
        placed[present, rank] = first[present]
        room[steps, first] -= np.maximum(size, 0)
        if bool((room[:, -1] < capacity).any()):  # keep one empty bin: something always fits
            room = np.concatenate([room, np.full((len(room), 1), capacity, np.int64)], axis=1)
    bins = np.empty_like(placed)
    np.put_along_axis(bins, order, placed, axis=1)
    return bins


def lay_out(
    lengths: Array,
    step_sizes: Array,
    *,
    capacity: int | None,
    micro_batch_size: int,
    ranks: int = 1,
) -> tuple[Array, Array, Array]:
    """Order the rows of each step by micro-batch.

    Args:
        lengths: int64 [n], tokens of each row, steps one after the other.
        step_sizes: int64 [S], rows of each step; they add up to n.
        capacity: tokens of a micro-batch when packing, None when not.
        micro_batch_size: rows of a micro-batch when not packing.
        ranks: processes that share a step; when packing, each gets as many micro-batches.

    Returns:
        order int64 [n], which row comes where; micro_sizes int64 [M], rows of each micro-batch;
        micro_counts int64 [S], micro-batches of each step.
    """
    step_sizes = np.asarray(step_sizes, np.int64)
    step_of = np.repeat(np.arange(len(step_sizes)), step_sizes)
    position = np.arange(len(lengths)) - np.repeat(np.cumsum(step_sizes) - step_sizes, step_sizes)
    if capacity is None:
        bins = position // micro_batch_size
    else:
        bins = _bins(np.asarray(lengths, np.int64), step_sizes, step_of, position, capacity, ranks)
    order = np.lexsort((position, bins, step_of))
    cells = np.stack([step_of[order], bins[order]], axis=1)
    starts = np.flatnonzero(np.any(np.diff(cells, axis=0, prepend=-1), axis=1))
    micro_sizes = np.diff(np.append(starts, len(lengths)))
    micro_counts = np.bincount(step_of[order][starts], minlength=len(step_sizes))
    return order, micro_sizes.astype(np.int64), micro_counts.astype(np.int64)


def _bins(
    lengths: Array, step_sizes: Array, step_of: Array, position: Array, capacity: int, ranks: int
) -> Array:
    """Bins of all rows, block of steps by block, so that memory stays bounded."""
    bins = np.zeros(len(lengths), np.int64)
    bounds = np.concatenate([[0], np.cumsum(step_sizes)])
    width = int(step_sizes.max(initial=1))
    block = max(1, _CELLS // width)
    for begin in range(0, len(step_sizes), block):
        end = min(begin + block, len(step_sizes))
        rows = slice(int(bounds[begin]), int(bounds[end]))
        table = np.full((end - begin, width), -1, np.int64)
        cell = (step_of[rows] - begin, position[rows])
        table[cell] = lengths[rows]
        found = first_fit_decreasing(table, capacity)
        bins[rows] = (spread(table, found, capacity, ranks) if ranks > 1 else found)[cell]
    return bins


def spread(lengths: Array, bins: Array, capacity: int, ranks: int) -> Array:
    """The rows of each step over a multiple of `ranks` bins, evenly; never over fewer.

    Longest first, each into the emptiest bin. A step stays as it is where it has too few rows, or
    where a bin would hold more than `capacity`.

    Args:
        lengths, bins: int64 [S, B], as `first_fit_decreasing` takes and gives them.
    """
    rows = (lengths >= 0).sum(axis=1)
    wanted = -(-(bins.max(axis=1) + 1) // ranks) * ranks
    counts = np.minimum(wanted, rows)
    order = np.argsort(-lengths, axis=1, kind="stable")
    falling = np.take_along_axis(lengths, order, axis=1)
    open_bins = np.arange(int(counts.max(initial=1))) < counts[:, None]
    load = np.where(open_bins, 0, np.iinfo(np.int64).max // 2)
    placed = np.full(lengths.shape, -1, np.int64)
    steps = np.arange(len(lengths))
    for column in range(lengths.shape[1]):
        size = falling[:, column]
        emptiest = np.argmin(load, axis=1)
        present = size >= 0
        placed[present, column] = emptiest[present]
        load[steps, emptiest] += np.maximum(size, 0)
    even = np.empty_like(placed)
    np.put_along_axis(even, order, placed, axis=1)
    fits = np.where(open_bins, load, 0).max(axis=1) <= capacity
    return np.where(fits[:, None], even, bins)
