"""What max_length leaves, counted with its reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ftlab.data.tokens import StoreWriter, TokenStore
from ftlab.data.usable import NO_ANSWER, TOO_LONG, answers_within, usable_rows


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    with StoreWriter(tmp_path, preference=False) as writer:
        for length, prompt in ((4, 2), (10, 2), (10, 8), (6, 6)):
            marks = np.arange(length) >= prompt
            writer.append(np.arange(length), marks, np.array([[length]]))
        return writer.finish()


@pytest.fixture
def pairs(tmp_path: Path) -> TokenStore:
    with StoreWriter(tmp_path, preference=True) as writer:
        for prompt, chosen, rejected in ((2, 2, 2), (2, 9, 2), (5, 1, 6), (9, 1, 1)):
            marks = np.concatenate([np.zeros(prompt), np.ones(chosen + rejected)])
            writer.append(np.arange(len(marks)), marks, np.array([[prompt, chosen, rejected]]))
        return writer.finish()


def test_drop(store: TokenStore) -> None:
    usable = usable_rows(store, 6, "drop")
    assert usable.rows.tolist() == [0]
    assert usable.tokens.tolist() == [4]
    assert usable.skipped == {TOO_LONG: 2, NO_ANSWER: 1}
    assert usable.truncated == 0


def test_truncate_cuts_the_end_and_drops_what_has_no_answer_left(store: TokenStore) -> None:
    usable = usable_rows(store, 6, "truncate")
    assert usable.rows.tolist() == [0, 1]
    assert usable.tokens.tolist() == [4, 6]
    assert usable.skipped == {NO_ANSWER: 2}
    assert usable.truncated == 1


def test_pairs_need_both_answers(pairs: TokenStore) -> None:
    usable = usable_rows(pairs, 6, "truncate")
    assert usable.rows.tolist() == [0, 1, 2]
    assert usable.tokens.tolist() == [8, 6 + 4, 6 + 6]
    assert usable.skipped == {NO_ANSWER: 1}
    assert usable.truncated == 2
    assert usable_rows(pairs, 6, "drop").rows.tolist() == [0]
    assert answers_within(pairs, None).tolist() == [2, 2, 1, 1]
    assert answers_within(pairs, 5).tolist() == [2, 2, 0, 0]


def test_room_enough_leaves_everything(pairs: TokenStore) -> None:
    for overlong in ("drop", "truncate"):
        usable = usable_rows(pairs, 100, overlong)
        assert len(usable.rows) == 4
        assert (usable.skipped, usable.truncated) == ({}, 0)
