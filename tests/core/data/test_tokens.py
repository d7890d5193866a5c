"""The token store: written in pieces, read back mapped, damage is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ftlab.data.tokens import StoreDamaged, StoreWriter, TokenStore, contents_sha256, row_chunks


def sft_store(path: Path, rows: list[tuple[list[int], list[int]]]) -> TokenStore:
    with StoreWriter(path, preference=False) as writer:
        for ids, marks in rows:
            writer.append(np.array(ids), np.array(marks), np.array([[len(ids)]]))
        return writer.finish(kind="test")


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    store = sft_store(tmp_path, [([1, 2, 3], [0, 1, 1]), ([4], [0]), ([5, 6], [0, 1])])
    assert [ids.tolist() for row in range(3) for ids, _ in store.sequences(row)] == [
        [1, 2, 3],
        [4],
        [5, 6],
    ]
    assert store.rows.tolist() == [[0, 3], [3, 4], [4, 6]]
    assert store.lengths().tolist() == [[3], [1], [2]]
    assert store.trained_per_row().tolist() == [2, 0, 1]
    assert store.meta["kind"] == "test"
    assert (len(store), store.preference, store.sequences_per_row) == (3, False, 1)


def test_preference_rows_have_two_sequences_that_share_the_prompt(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, preference=True) as writer:
        writer.append(
            np.array([1, 2, 3, 4, 5, 6, 7, 8]),
            np.array([0, 0, 1, 1, 1, 1, 1, 1]),
            np.array([[2, 1, 2], [0, 1, 2]]),
        )
        store = writer.finish()
    assert [ids.tolist() for ids, _ in store.sequences(0)] == [[1, 2, 3], [1, 2, 4, 5]]
    assert [marks.tolist() for _, marks in store.sequences(0)] == [[0, 0, 1], [0, 0, 1, 1]]
    assert store.lengths().tolist() == [[3, 4], [1, 2]]
    assert store.sequences_per_row == 2


def test_the_first_token_of_a_sequence_is_never_trained(tmp_path: Path) -> None:
    store = sft_store(tmp_path / "sft", [([1, 2], [1, 1]), ([3, 4], [1, 0])])
    assert store.trained.tolist() == [0, 1, 0, 0]
    with StoreWriter(tmp_path / "pairs", preference=True) as writer:
        writer.append(np.arange(5), np.ones(5), np.array([[0, 2, 3]]))
        pairs = writer.finish()
    assert pairs.trained.tolist() == [0, 1, 0, 1, 1]


def test_the_hash_is_of_the_contents_not_of_the_folder_or_the_pieces(tmp_path: Path) -> None:
    rows = [([1, 2, 3], [0, 1, 1]), ([4, 5], [0, 1])]
    one = sft_store(tmp_path / "one", rows)
    with StoreWriter(tmp_path / "two", preference=False) as writer:
        writer.append(np.array([1, 2, 3, 4, 5]), np.array([0, 1, 1, 0, 1]), np.array([[3], [2]]))
        two = writer.finish()
    assert one.sha256 == two.sha256 == contents_sha256(vars_of(one))
    changed = sft_store(tmp_path / "three", [([1, 2, 3], [0, 1, 0]), ([4, 5], [0, 1])])
    assert changed.sha256 != one.sha256


def vars_of(store: TokenStore) -> dict[str, np.ndarray]:
    return {name: getattr(store, name) for name in ("tokens", "trained", "rows", "keys")}


def test_files_are_plain_npy_and_mapped(tmp_path: Path) -> None:
    sft_store(tmp_path, [([1, 2, 3], [0, 1, 1])])
    assert np.load(tmp_path / "tokens.npy", allow_pickle=False).dtype == np.int32
    assert np.load(tmp_path / "rows.npy", allow_pickle=False).shape == (1, 2)
    store = TokenStore.open(tmp_path)
    assert isinstance(store.tokens.base, np.memmap) or isinstance(store.tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.tokens[0] = 9


@pytest.mark.parametrize("name", ["tokens.npy", "trained.npy", "rows.npy", "keys.npy"])
def test_a_truncated_file_is_noticed(tmp_path: Path, name: str) -> None:
    sft_store(tmp_path, [(list(range(100)), [0] + [1] * 99)])
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[:-4])
    with pytest.raises(StoreDamaged, match=name):
        TokenStore.open(tmp_path)


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    sft_store(tmp_path, [(list(range(100)), [0] + [1] * 99)])
    data = bytearray((tmp_path / "tokens.npy").read_bytes())
    data[-1] ^= 1
    (tmp_path / "tokens.npy").write_bytes(data)
    with pytest.raises(StoreDamaged, match="changed since it was written"):
        TokenStore.open(tmp_path)
    assert len(TokenStore.open(tmp_path, verify=False)) == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 1}'])
def test_an_unreadable_meta_is_noticed(tmp_path: Path, text: str) -> None:
    sft_store(tmp_path, [([1, 2], [0, 1])])
    (tmp_path / "meta.json").write_text(text)
    with pytest.raises(StoreDamaged):
        TokenStore.open(tmp_path)


def test_missing_or_unfinished_or_newer_stores_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreDamaged, match="no complete token store"):
        TokenStore.open(tmp_path / "nowhere")
    with StoreWriter(tmp_path / "half", preference=False) as writer:
        writer.append(np.array([1, 2]), np.array([0, 1]), np.array([[2]]))
    with pytest.raises(StoreDamaged, match="no complete token store"):
        TokenStore.open(tmp_path / "half")
    sft_store(tmp_path, [([1, 2], [0, 1])])
    meta = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps({**meta, "version": 99}))
    with pytest.raises(StoreDamaged, match="version 99"):
        TokenStore.open(tmp_path)


def test_row_chunks_cover_every_row_once() -> None:
    ends = np.cumsum([3, 50, 1, 1, 1, 200, 2])
    rows = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    chunks = list(row_chunks(rows, tokens=10))
    assert [row for begin, end in chunks for row in range(begin, end)] == list(range(7))
    assert chunks[0] == (0, 1)
    assert (2, 5) in chunks
