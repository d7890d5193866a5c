"""The batch index: what each step holds, the same bits everywhere, hashed."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftlab.data import batches
from ftlab.data.batches import BatchIndex, IndexDamaged, build, build_eval, permutation
from ftlab.data.tokens import StoreWriter, TokenStore
from ftlab.errors import DataError

SETTINGS: dict[str, Any] = {
    "seed": 3407,
    "epochs": 1,
    "max_steps": None,
    "batch_size": 4,
    "micro_batch_size": 2,
    "max_length": 16,
    "overlong": "truncate",
    "packing": True,
}


def make_store(path: Path, rows: int = 10, *, preference: bool = False) -> TokenStore:
    """Rows of known content: row r has tokens r * 100 + 0, 1, 2, ..."""
    with StoreWriter(path, preference=preference) as writer:
        for row in range(rows):
            prompt, answer = 1 + row % 3, 2 + row % 5
            lengths = [prompt, answer, answer + 1] if preference else [prompt + answer]
            total = sum(lengths)
            marks = np.arange(total) >= prompt
            writer.append(np.arange(total) + 100 * row, marks, np.array([lengths]))
        return writer.finish()


@pytest.fixture
def store(tmp_path: Path) -> TokenStore:
    return make_store(tmp_path / "store")


@pytest.fixture
def pairs(tmp_path: Path) -> TokenStore:
    return make_store(tmp_path / "pairs", preference=True)


def test_each_epoch_has_every_row_once(store: TokenStore) -> None:
    index = build(store, **{**SETTINGS, "epochs": 2})
    assert (index.steps, index.steps_per_epoch, index.rows_per_epoch) == (6, 3, 10)
    for epoch in (0, 1):
        rows = [index.step_rows(step) for step in range(3 * epoch, 3 * epoch + 3)]
        assert [len(part) for part in rows] == [4, 4, 2]
        assert sorted(np.concatenate(rows).tolist()) == list(range(10))
    assert [step.epoch for step in index] == [0, 0, 0, 1, 1, 1]


def test_the_order_is_the_documented_one(store: TokenStore) -> None:
    index = build(store, **{**SETTINGS, "packing": False, "epochs": 2})
    keys = np.random.Philox(key=np.array([3407, 1], np.uint64)).random_raw(10)
    second_epoch = np.concatenate([index.step_rows(step) for step in (3, 4, 5)])
    assert second_epoch.tolist() == np.argsort(keys, kind="stable").tolist()


def test_golden_order_and_hashes(store: TokenStore) -> None:
    """Stored values: a change of library, platform or code that moves a bit shows here."""
    assert permutation(10, seed=3407, epoch=0).tolist() == [9, 4, 1, 2, 3, 0, 5, 8, 6, 7]
    assert permutation(10, seed=3407, epoch=1).tolist() == [2, 6, 9, 8, 4, 5, 0, 1, 7, 3]
    index = build(store, **SETTINGS)
    assert store.sha256 == "1927a36bb504e125fc7541c3a7df35a4cac19149abb32cda7fe842a571bb4fe4"
    assert [f"{value:016x}" for value in index.hashes] == [
        "22430e4c2584de02",
        "c6eeb7b20537315d",
        "ea9341651be419ab",
    ]
    assert index.sha256 == "4e01343164df282c4abfddce205d6d61ba0772c63e77bf6020e443dd14fd8185"


def test_the_hash_is_what_the_module_says(store: TokenStore, pairs: TokenStore) -> None:
    for data in (store, pairs):
        index = build(data, **{**SETTINGS, "max_length": 6})
        assert index.truncated > 0
        for step in range(index.steps):
            sequences = [
                (ids[:6], marks[:6])
                for row in sorted(index.step_rows(step))
                for ids, marks in data.sequences(int(row))
            ]
            text = b"".join(ids.astype("<i4").tobytes() for ids, _ in sequences)
            text += b"".join(marks.astype("u1").tobytes() for _, marks in sequences)
            text += np.array([len(ids) for ids, _ in sequences], "<i8").tobytes()
            expected = int.from_bytes(hashlib.sha256(text).digest()[:8], "little")
            assert index.step(step).batch_hash == expected


def test_packing_moves_rows_between_micro_batches_only(store: TokenStore) -> None:
    packed = build(store, **SETTINGS)
    plain = build(store, **{**SETTINGS, "packing": False})
    assert packed.hashes.tolist() == plain.hashes.tolist()
    assert packed.sha256 != plain.sha256
    for step in range(packed.steps):
        assert sorted(packed.step_rows(step)) == sorted(plain.step_rows(step))
        assert packed.step(step).trained_tokens == plain.step(step).trained_tokens
        assert all(len(micro.input_ids) <= 2 * 16 for micro in packed.step(step).micro)
        assert all(len(micro.rows) <= 2 for micro in plain.step(step).micro)


def test_a_micro_batch_lays_sequences_beside_each_other(store: TokenStore) -> None:
    micro = batches.micro_batch(store, np.array([1, 3]), 16)
    assert micro.input_ids.tolist() == [100, 101, 102, 103, 104, 300, 301, 302, 303, 304, 305]
    assert micro.position_ids.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5]
    assert micro.cu_seqlens.tolist() == [0, 5, 11]
    assert micro.labels.tolist() == [
        -100, 102, 103, 104, -100, 301, 302, 303, 304, 305, -100,
    ]  # fmt: skip
    assert [array.dtype.name for array in (micro.input_ids, micro.position_ids)] == ["int64"] * 2
    assert [array.dtype.name for array in (micro.cu_seqlens, micro.labels)] == ["int32", "int64"]
    assert (micro.rows.tolist(), micro.sequences_per_row) == ([1, 3], 1)


def test_a_pair_is_two_sequences_with_the_same_prompt(pairs: TokenStore) -> None:
    micro = batches.micro_batch(pairs, np.array([1]), 16)
    assert micro.input_ids.tolist() == [100, 101, 102, 103, 104, 100, 101, 105, 106, 107, 108]
    assert micro.cu_seqlens.tolist() == [0, 5, 11]
    assert micro.labels.tolist() == [
        -100, 102, 103, 104, -100, -100, 105, 106, 107, 108, -100,
    ]  # fmt: skip
    assert micro.sequences_per_row == 2


def test_no_label_crosses_a_boundary_and_the_counts_agree(
    store: TokenStore, pairs: TokenStore
) -> None:
    for data in (store, pairs):
        index = build(data, **{**SETTINGS, "max_length": 5, "micro_batch_size": 3})
        total = 0
        for step in index:
            labels = [micro.labels for micro in step.micro]
            assert step.trained_tokens == sum(int((part != -100).sum()) for part in labels)
            total += step.trained_tokens
            for micro in step.micro:
                ends = micro.cu_seqlens[1:] - 1
                assert (micro.labels[ends] == -100).all()
                inside = np.flatnonzero(micro.labels != -100)
                assert (micro.labels[inside] == micro.input_ids[inside + 1]).all()
                assert (np.diff(micro.cu_seqlens) <= 5).all()
        assert total == index.trained_tokens


@pytest.mark.parametrize(
    ("epochs", "max_steps", "steps"),
    [(1, None, 3), (0.5, None, 2), (0.01, None, 1), (2.34, None, 8), (3, 1, 1), (1, 7, 7)],
)
def test_number_of_steps(
    store: TokenStore, epochs: float, max_steps: int | None, steps: int
) -> None:
    index = build(store, **{**SETTINGS, "epochs": epochs, "max_steps": max_steps})
    assert index.steps == steps
    longer = build(store, **{**SETTINGS, "epochs": 9})
    assert index.hashes.tolist() == longer.hashes[:steps].tolist()  # wraps into the next epochs


def test_exact_epochs_have_no_rounding_step() -> None:
    assert [batches.epoch_steps(epochs, 1000) for epochs in (0.1, 0.3, 1.1, 2.9)] == [
        100,
        300,
        1100,
        2900,
    ]


def test_seeds_and_epochs_give_other_orders(store: TokenStore) -> None:
    orders = {
        tuple(permutation(10, seed=seed, epoch=epoch)) for seed in range(5) for epoch in range(5)
    }
    assert len(orders) == 25


def test_evaluation_keeps_store_order(store: TokenStore) -> None:
    index = build_eval(
        store,
        batch_size=4,
        micro_batch_size=4,
        max_length=16,
        overlong="truncate",
        packing=False,
    )
    assert np.concatenate([step.micro[0].rows for step in index]).tolist() == list(range(10))


def test_saved_index_opens_equal(store: TokenStore, tmp_path: Path) -> None:
    index = build(store, **SETTINGS)
    index.save(tmp_path / "data")
    again = BatchIndex.open(tmp_path / "data", store)
    assert again.sha256 == index.sha256
    assert again.steps_per_epoch == 3
    for one, other in zip(index, again, strict=True):
        assert one.batch_hash == other.batch_hash
        assert [m.labels.tolist() for m in one.micro] == [m.labels.tolist() for m in other.micro]
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == sorted(
        [f"{name}.npy" for name in ("step_offsets", "micro_offsets", "rows", "hashes", "trained")]
        + ["index.json"]
    )


@pytest.mark.parametrize("name", ["rows.npy", "hashes.npy", "index.json"])
def test_a_changed_index_is_noticed(store: TokenStore, tmp_path: Path, name: str) -> None:
    build(store, **SETTINGS).save(tmp_path)
    if name == "index.json":
        header = json.loads((tmp_path / name).read_text())
        (tmp_path / name).write_text(json.dumps({**header, "batch_size": 5}))
    else:
        data = bytearray((tmp_path / name).read_bytes())
        data[-8] ^= 1
        (tmp_path / name).write_bytes(data)
    with pytest.raises(IndexDamaged, match="changed since it was written"):
        BatchIndex.open(tmp_path, store)


def test_missing_truncated_or_foreign_indexes_are_refused(
    store: TokenStore, pairs: TokenStore, tmp_path: Path
) -> None:
    with pytest.raises(IndexDamaged, match="cannot be read"):
        BatchIndex.open(tmp_path / "nowhere", store)
    build(store, **SETTINGS).save(tmp_path / "data")
    with pytest.raises(IndexDamaged, match="another token store"):
        BatchIndex.open(tmp_path / "data", pairs)
    rows = tmp_path / "data" / "rows.npy"
    rows.write_bytes(rows.read_bytes()[:-3])
    with pytest.raises(IndexDamaged, match="cannot be read"):
        BatchIndex.open(tmp_path / "data", store)


def test_nothing_usable_is_an_error_with_the_numbers(store: TokenStore) -> None:
    with pytest.raises(DataError, match=r"max_length 2.*10 longer than max_length.*raise"):
        build(store, **{**SETTINGS, "max_length": 2, "overlong": "drop"})


def test_steps_outside_the_run_are_refused(store: TokenStore) -> None:
    index = build(store, **SETTINGS)
    for step in (-1, 3):
        with pytest.raises(IndexError):
            index.step(step)


@pytest.mark.quiet
def test_a_million_rows_are_decided_and_hashed_in_seconds(tmp_path: Path, slowness: float) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(8, 60, 1_000_000)
    with StoreWriter(tmp_path, preference=False) as writer:
        total = int(lengths.sum())
        marks = np.ones(total, np.uint8)
        writer.append(np.arange(total) % 1000, marks, lengths[:, None])
        store = writer.finish()
    begin = time.process_time()
    index = build(store, **{**SETTINGS, "batch_size": 16, "max_length": 64})
    seconds = time.process_time() - begin
    assert index.steps == 62_500
    assert index.trained_tokens == total - 1_000_000
    assert seconds < 30 * slowness  # one row at a time took minutes
