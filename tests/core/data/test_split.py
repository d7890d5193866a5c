"""Held-out rows: by prompt, the same for every seed and tokenizer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ftlab.data.split import copy_rows, held_out
from ftlab.data.tokens import StoreWriter
from ftlab.errors import DataError


def test_rows_of_one_prompt_stay_on_one_side() -> None:
    keys = np.random.default_rng(0).integers(0, 2**63, 200, dtype=np.uint64)
    keys = np.concatenate([keys, keys[:50], keys[:10]])
    chosen = held_out(keys, 0.1)
    assert 20 <= chosen.sum() <= 32
    assert not set(keys[chosen]) & set(keys[~chosen])


def test_the_choice_follows_the_rows_and_grows_with_the_share() -> None:
    keys = np.random.default_rng(1).integers(0, 2**63, 100, dtype=np.uint64)
    few, many = held_out(keys, 0.1), held_out(keys, 0.3)
    assert (few.sum(), many.sum()) == (10, 30)
    assert not (few & ~many).any()
    order = np.random.default_rng(2).permutation(100)
    assert held_out(keys[order], 0.1).tolist() == few[order].tolist()


def test_at_least_one_row_on_either_side() -> None:
    keys = np.array([5, 7, 7, 7], np.uint64)
    assert held_out(keys, 0.001).tolist() == [True, False, False, False]
    assert held_out(keys, 0.9).tolist() == [True, False, False, False]
    assert held_out(keys[:2], 0.9).sum() == 1


def test_one_prompt_alone_cannot_be_split() -> None:
    with pytest.raises(DataError, match=r"none of the 3 rows.*same prompt.*eval_source"):
        held_out(np.array([4, 4, 4], np.uint64), 0.5)


@pytest.mark.parametrize("preference", [False, True])
def test_rows_are_copied_whole(
    tmp_path: Path, preference: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = (9, 3) if preference else (9, 1)
    lengths = np.random.default_rng(3).integers(1, 6, shape)
    total = int(lengths.sum())
    with StoreWriter(tmp_path / "all", preference=preference) as writer:
        writer.append(np.arange(total), np.arange(total) % 2, lengths, np.arange(9))
        store = writer.finish()
    chosen = np.arange(9) % 3 == 1
    part = copy_rows(store, chosen, tmp_path / "part", note="n")
    assert part.meta["note"] == "n"
    assert part.meta["duplicates"] == 0
    assert part.keys.tolist() == [1, 4, 7]
    for here, there in enumerate([1, 4, 7]):
        for (ids, marks), (want, trained) in zip(
            part.sequences(here), store.sequences(there), strict=True
        ):
            assert (ids.tolist(), marks.tolist()) == (want.tolist(), trained.tolist())
