"""Which rows of a token store can be trained at a given max_length, and how long they then are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ftlab.data.tokens import TokenStore, row_chunks

Array = npt.NDArray[Any]
Overlong = Literal["drop", "truncate"]

TOO_LONG = "longer than max_length"
NO_ANSWER = "no trained token within max_length"


@dataclass(frozen=True, slots=True)
class Usable:
    """The rows that remain; U of them, in store order.

    Attributes:
        rows: int64 [U] store rows.
        tokens: int64 [U] tokens of the row's sequences after truncation, together.
        skipped: reason -> rows left out.
        truncated: rows that were cut at max_length.
    """

    rows: Array
    tokens: Array
    skipped: dict[str, int] = field(default_factory=dict)
    truncated: int = 0


def usable_rows(store: TokenStore, max_length: int, overlong: Overlong) -> Usable:
    """Apply max_length to every row.

    With `drop`, a row (pair) with a sequence longer than `max_length` is left out. With
    `truncate`, each sequence is cut at its end; a row whose answer (for a pair: either answer) has
    no trained token left is left out, since it could teach nothing.
    """
    lengths = store.lengths()
    over = (lengths > max_length).any(axis=1)
    if overlong == "drop":
        keep = ~over & (answers_within(store, None) > 0)
        reasons = {TOO_LONG: int(over.sum()), NO_ANSWER: int((~over & ~keep).sum())}
        truncated = 0
    else:
        keep = answers_within(store, max_length) > 0
        reasons = {NO_ANSWER: int((~keep).sum())}
        truncated = int((over & keep).sum())
    rows = np.flatnonzero(keep).astype(np.int64)
    tokens = np.minimum(lengths, max_length).sum(axis=1)[rows]
    return Usable(rows, tokens, {k: n for k, n in reasons.items() if n}, truncated)


def answers_within(store: TokenStore, max_length: int | None) -> Array:
    """Trained tokens of each row within the first `max_length` tokens, int64 [R].

    For preference rows the smaller count of the two answers, so that 0 means "not usable".
    """
    found = [np.zeros(0, np.int64)]
    for begin, end in row_chunks(store.rows):
        bounds = np.asarray(store.rows[begin:end])
        base = int(bounds[0, 0])
        marks = store.trained[base : int(bounds[-1, -1])]
        running = np.concatenate([[0], np.cumsum(marks, dtype=np.int64)])
        counts = [
            running[stops - base] - running[starts - base]
            for starts, stops in _answers(bounds, max_length)
        ]
        found.append(np.minimum.reduce(counts))
    return np.concatenate(found)


def _answers(bounds: Array, max_length: int | None) -> list[tuple[Array, Array]]:
    """Ranges of each row that may hold trained tokens, cut at `max_length`."""
    limit = np.iinfo(np.int64).max // 2 if max_length is None else max_length
    if bounds.shape[1] == 2:
        return [(bounds[:, 0], np.minimum(bounds[:, 1], bounds[:, 0] + limit))]
    prompt = bounds[:, 1] - bounds[:, 0]
    room = np.maximum(limit - prompt, 0)
    return [
        (bounds[:, side], np.minimum(bounds[:, side + 1], bounds[:, side] + room))
        for side in (1, 2)
    ]
