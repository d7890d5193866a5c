"""What a token store holds, in numbers and as one sample: the facts that a plan is made from."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftlab.data.chat import render_sample
from ftlab.data.tokens import TokenStore

_LENGTHS = tuple(2**power for power in range(6, 21))  # 64 tokens to a million
_PERCENTILES = (50, 90, 95, 99)


def describe(store: TokenStore) -> dict[str, Any]:
    """Fields of `DataFacts` that follow from the tokens.

    The length of a row is that of its (longer) sequence. `tokens` counts the prompt of a pair
    twice, as it is computed twice.
    """
    lengths = store.lengths()
    longest = lengths.max(axis=1)
    top = int(longest.max())
    bounds = [bound for bound in _LENGTHS if bound < 2 * top] or [_LENGTHS[0]]
    up_to = [int((longest <= bound).sum()) for bound in bounds]
    return {
        "sha256": store.sha256,
        "rows": len(store),
        "tokens": int(lengths.sum()),
        "trained_tokens": int(store.trained_per_row().sum()),
        "longest": top,
        "percentiles": {
            str(share): int(np.percentile(longest, share, method="higher"))
            for share in _PERCENTILES
        },
        "histogram": tuple(zip(bounds, np.diff([0, *up_to]).tolist(), strict=True)),
        "over": {str(bound): len(store) - up_to[i] for i, bound in enumerate(bounds)},
        "preference": store.preference,
    }


def sample(tokenizer: Any, store: TokenStore, row: int = 0) -> str:
    """A row as text, what is trained between the marks of `chat.MARKS`."""
    bounds = [int(bound) for bound in store.rows[row]]
    tokens, marks = store.sequences(row)[0]
    shown = render_sample(tokenizer, tokens.tolist(), marks.tolist())
    if not store.preference:
        return shown
    rejected = slice(bounds[2], bounds[3])
    other = render_sample(
        tokenizer, store.tokens[rejected].tolist(), store.trained[rejected].tolist()
    )
    return f"{shown}\n[rejected]\n{other}"


def samples(tokenizer: Any, store: TokenStore) -> tuple[str, ...]:
    """The first row, one of median length and the longest, each once, as `sample` gives them."""
    order = np.argsort(store.lengths().max(axis=1), kind="stable")
    chosen = dict.fromkeys((0, int(order[len(order) // 2]), int(order[-1])))
    return tuple(sample(tokenizer, store, row) for row in chosen)
