"""Hold out rows for evaluation: by their prompts, so that no prompt is on both sides.

The rows with the smallest prompt hashes are held out. The choice depends on the texts alone: not on
train.seed, so that the runs of a seed sweep are judged on the same rows; not on the tokenizer, so
that models are; and a larger share holds out a superset of a smaller one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ftlab.data.hashing import repeated, row_hashes
from ftlab.data.tokens import StoreWriter, TokenStore, row_chunks
from ftlab.errors import DataError, Problem

Array = npt.NDArray[Any]


def held_out(keys: Array, fraction: float) -> Array:
    """Which rows are held out, bool [R].

    Args:
        keys: uint64 [R], hash of each row's prompt.
        fraction: share of the rows; rows that share a prompt stay together, so the share is met
            as nearly as they allow, with at least one prompt on either side.

    Raises:
        DataError: every row has the same prompt.
    """
    prompts, counts = np.unique(keys, return_counts=True)
    if len(prompts) < 2:
        raise DataError(
            [
                Problem(
                    "data.eval_fraction",
                    f"none of the {len(keys)} rows can be held out: all have the same prompt",
                    "give data.eval_source instead",
                )
            ]
        )
    reached = np.cumsum(counts)[:-1]
    number = 1 + int(np.argmin(np.abs(reached - fraction * len(keys))))
    return np.isin(keys, prompts[:number])


def copy_rows(store: TokenStore, chosen: Array, path: Path, **meta: Any) -> TokenStore:
    """Write a store with the rows where `chosen` (bool [R]) is true, in their order.

    `meta` is what its meta.json says besides; `duplicates` in it is counted anew.
    """
    seen = []
    with StoreWriter(path, preference=store.preference) as writer:
        for begin, end in row_chunks(store.rows):
            part = chosen[begin:end]
            if not part.any():
                continue
            bounds = np.asarray(store.rows[begin:end])
            kept = np.repeat(part, bounds[:, -1] - bounds[:, 0])
            span = slice(int(bounds[0, 0]), int(bounds[-1, -1]))
            tokens, lengths = store.tokens[span][kept], np.diff(bounds, axis=1)[part]
            keys = np.asarray(store.keys[begin:end])[part]
            writer.append(tokens, store.trained[span][kept], lengths, keys)
            seen.append(row_hashes(tokens, lengths))
        return writer.finish(**{**meta, "duplicates": repeated(seen)})
