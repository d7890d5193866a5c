"""A pair as prompt, chosen and rejected tokens that add up to the two whole sequences, exactly.

Both dialogues are tokenised whole. The prompt is what they share before the first trained token of
either, so prompt + chosen and prompt + rejected are the tokens that the template gives, whatever a
tokenizer does at the border between prompt and answer.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def share_prompt(
    chosen: Array, chosen_marks: Array, rejected: Array, rejected_marks: Array
) -> tuple[Array, Array, tuple[int, int, int]]:
    """Join two tokenised dialogues that begin with the same prompt.

    Args:
        chosen, rejected: token ids [C], [R] of the whole sequences.
        chosen_marks, rejected_marks: 1 where trained.

    Returns:
        tokens and marks of prompt, rest of chosen, rest of rejected, one after the other, and the
        length of each.
    """
    shared = min(
        _first(chosen_marks != 0), _first(rejected_marks != 0), _first_difference(chosen, rejected)
    )
    tokens = np.concatenate([chosen, rejected[shared:]])
    marks = np.concatenate([chosen_marks, rejected_marks[shared:]])
    return tokens, marks, (shared, len(chosen) - shared, len(rejected) - shared)


def _first(flags: Array) -> int:
    """Index of the first true, or the length."""
    return int(np.argmax(flags)) if bool(flags.any()) else len(flags)


def _first_difference(one: Array, other: Array) -> int:
    length = min(len(one), len(other))
    return _first(one[:length] != other[:length])
