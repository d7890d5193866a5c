"""Hashes of rows and of optimizer steps: which tokens are trained on, whatever the layout.

The hash of a step: first 8 bytes (little-endian) of sha256 over, for the step's rows in rising
store order and cut at max_length: the tokens (int32) of all sequences, then their marks (uint8),
then their lengths (int64). A preference row has the sequences prompt + chosen, then prompt +
rejected.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ftlab.data.tokens import TokenStore

_CHUNK_TOKENS = 1 << 22

Array = npt.NDArray[Any]


def offsets(sizes: Array) -> Array:
    """Boundaries of parts with these sizes, int64 [n+1], from 0."""
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def hash_steps(
    store: TokenStore, rows: Array, step_sizes: Array, max_length: int
) -> tuple[Array, Array]:
    """Hash (uint64 [S]) and trained tokens (int64 [S]) of steps whose rows follow each other."""
    bounds = offsets(step_sizes)
    rows = rows[np.lexsort((rows, np.repeat(np.arange(len(step_sizes)), step_sizes)))]
    lengths = np.minimum(store.lengths(), max_length)
    ends = np.cumsum(lengths[rows].sum(axis=1))[bounds[1:] - 1]
    hashes, trained = np.empty(len(ends), np.uint64), np.empty(len(ends), np.int64)
    begin, done = 0, 0
    while begin < len(ends):
        end = max(begin + 1, int(np.searchsorted(ends, done + _CHUNK_TOKENS, side="right")))
        part = rows[bounds[begin] : bounds[end]]
        sizes = step_sizes[begin:end]
        hashes[begin:end], trained[begin:end] = _hash_chunk(store, part, sizes, lengths[part])
        begin, done = end, int(ends[end - 1])
    return hashes, trained


def _hash_chunk(
    store: TokenStore, rows: Array, step_sizes: Array, lengths: Array
) -> tuple[Array, Array]:
    """`hash_steps` for rows that fit in memory; lengths int64 [rows, sequences_per_row]."""
    pieces = _pieces(np.asarray(store.rows[rows]), lengths)
    sizes = pieces[..., 1].ravel()
    where = np.repeat(pieces[..., 0].ravel() - offsets(sizes)[:-1], sizes)
    where += np.arange(len(where))
    tokens, marks = store.tokens[where], store.trained[where]
    row_bounds = offsets(step_sizes)
    token_bounds = offsets(lengths.sum(axis=1))[row_bounds]
    ids, flags = tokens.data, marks.data
    width = lengths.shape[1]
    sides = np.ascontiguousarray(lengths).ravel().data
    hashes = np.empty(len(step_sizes), np.uint64)
    for step in range(len(step_sizes)):
        first, last = token_bounds[step], token_bounds[step + 1]
        digest = hashlib.sha256(ids[first:last])
        digest.update(flags[first:last])
        digest.update(sides[row_bounds[step] * width : row_bounds[step + 1] * width])
        hashes[step] = int.from_bytes(digest.digest()[:8], "little")
    running = np.concatenate([[0], np.cumsum(marks, dtype=np.int64)])
    return hashes, running[token_bounds[1:]] - running[token_bounds[:-1]]


def _pieces(bounds: Array, lengths: Array) -> Array:
    """Store ranges (begin, size) that make up the sequences of rows, int64 [rows, pieces, 2]."""
    if bounds.shape[1] == 2:
        return np.stack([bounds[:, :1], lengths], axis=2)
    prompt = np.minimum(bounds[:, 1:2] - bounds[:, :1], lengths)  # [rows, 2]: cut per sequence
    begins = np.stack([bounds[:, 0], bounds[:, 1], bounds[:, 0], bounds[:, 2]], axis=1)
    sizes = np.stack([prompt, lengths - prompt], axis=2).reshape(len(bounds), 4)
    return np.stack([begins, sizes], axis=2)


def row_hashes(tokens: Array, lengths: Array) -> Array:
    """64-bit hash of each row's tokens and segment lengths, to find rows that are repeated.

    Args:
        tokens: int32 [n], rows one after the other.
        lengths: int64 [rows, K], tokens of each segment.

    Returns:
        uint64 [rows].
    """
    lengths = np.ascontiguousarray(lengths, np.int64)
    bounds = offsets(lengths.sum(axis=1))
    ids, sides = np.ascontiguousarray(tokens).data, lengths.ravel().data
    width = lengths.shape[1]
    found = np.empty(len(lengths), np.uint64)
    for row in range(len(lengths)):
        digest = hashlib.blake2b(ids[bounds[row] : bounds[row + 1]], digest_size=8)
        digest.update(sides[row * width : (row + 1) * width])
        found[row] = int.from_bytes(digest.digest(), "little")
    return found


def repeated(hashes: list[Array]) -> int:
    """How many rows equal an earlier one, from pieces of `row_hashes`."""
    together = np.concatenate([np.zeros(0, np.uint64), *hashes])
    return len(together) - len(np.unique(together))
