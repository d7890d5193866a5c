"""Prompt, chosen and rejected add up to the whole sequences, whatever the border does."""

from __future__ import annotations

import numpy as np
import pytest

from ftlab.data.preference import share_prompt


@pytest.mark.parametrize(
    ("chosen", "marks", "rejected", "other", "lengths"),
    [
        ([1, 2, 3, 4], [0, 0, 1, 1], [1, 2, 5], [0, 0, 1], (2, 2, 1)),
        # Answers that begin alike: the shared part of the answer is trained in both.
        ([1, 2, 3, 4], [0, 0, 1, 1], [1, 2, 3, 5], [0, 0, 1, 1], (2, 2, 2)),
        # A token across the border differs although the prompt's text is the same.
        ([1, 9, 4], [0, 1, 1], [1, 2, 5], [0, 0, 1], (1, 2, 2)),
        # The prompt's last token differs and is not trained: it belongs to each side.
        ([1, 8, 4], [0, 0, 1], [1, 7, 4], [0, 0, 1], (1, 2, 2)),
        ([3, 4], [1, 1], [5], [1], (0, 2, 1)),
        ([1, 2], [0, 0], [1, 2], [0, 0], (2, 0, 0)),
    ],
)
def test_segments_add_up(
    chosen: list[int],
    marks: list[int],
    rejected: list[int],
    other: list[int],
    lengths: tuple[int, int, int],
) -> None:
    tokens, trained, found = share_prompt(
        np.array(chosen), np.array(marks), np.array(rejected), np.array(other)
    )
    assert found == lengths
    prompt, better, worse = np.split(tokens, np.cumsum(lengths)[:-1])
    assert [*prompt, *better] == chosen
    assert [*prompt, *worse] == rejected
    prompt, better, worse = np.split(trained, np.cumsum(lengths)[:-1])
    assert [*prompt, *better] == marks
    assert [*prompt, *worse] == other
    assert not prompt.any()


def test_random_pairs_add_up() -> None:
    generator = np.random.default_rng(0)
    for _ in range(300):
        prompt = generator.integers(0, 4, generator.integers(0, 6))
        sides = [generator.integers(0, 4, generator.integers(1, 6)) for _ in range(2)]
        whole = [np.concatenate([prompt, side]) for side in sides]
        marks = [(np.arange(len(ids)) >= len(prompt)).astype(np.uint8) for ids in whole]
        tokens, trained, (shared, better, worse) = share_prompt(
            whole[0], marks[0], whole[1], marks[1]
        )
        assert shared == len(prompt)
        assert len(tokens) == len(trained) == shared + better + worse
        assert np.array_equal(tokens[: shared + better], whole[0])
        assert np.array_equal(np.concatenate([tokens[:shared], tokens[-worse:]]), whole[1])
