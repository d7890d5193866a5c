"""Hashes of rows and steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ftlab.data import hashing
from ftlab.data.hashing import hash_steps, offsets, repeated, row_hashes
from ftlab.data.tokens import StoreWriter, TokenStore


@pytest.fixture(params=[False, True])
def store(tmp_path: Path, request: pytest.FixtureRequest) -> TokenStore:
    generator = np.random.default_rng(0)
    lengths = generator.integers(1, 9, (50, 3 if request.param else 1))
    total = int(lengths.sum())
    with StoreWriter(tmp_path, preference=request.param) as writer:
        writer.append(generator.integers(0, 99, total), generator.integers(0, 2, total), lengths)
        return writer.finish()


def test_pieces_of_the_work_do_not_change_the_hashes(
    store: TokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = np.random.default_rng(1).permutation(50)
    sizes = np.array([7] * 7 + [1])
    whole = hash_steps(store, rows, sizes, 6)
    monkeypatch.setattr(hashing, "_CHUNK_TOKENS", 10)
    pieces = hash_steps(store, rows, sizes, 6)
    assert all(np.array_equal(a, b) for a, b in zip(whole, pieces, strict=True))


def test_order_within_a_step_does_not_count_but_the_step_does(store: TokenStore) -> None:
    one = hash_steps(store, np.array([3, 1, 2, 9, 8]), np.array([3, 2]), 99)[0]
    same = hash_steps(store, np.array([1, 2, 3, 8, 9]), np.array([3, 2]), 99)[0]
    other = hash_steps(store, np.array([1, 2, 8, 3, 9]), np.array([3, 2]), 99)[0]
    assert one.tolist() == same.tolist()
    assert not set(one.tolist()) & set(other.tolist())


def test_repeated_rows_are_counted_by_tokens_and_segments() -> None:
    tokens = np.array([1, 2, 3, 1, 2, 3, 1, 2, 3], np.int32)
    assert repeated([row_hashes(tokens, np.array([[3], [3], [3]]))]) == 2
    assert repeated([row_hashes(tokens, np.array([[1, 1, 1], [1, 0, 2], [1, 1, 1]]))]) == 1
    assert repeated([row_hashes(tokens[:3], np.array([[3]]))] * 3) == 2
    assert repeated([]) == 0


def test_offsets() -> None:
    assert offsets(np.array([2, 0, 3])).tolist() == [0, 2, 2, 5]
