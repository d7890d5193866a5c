"""Precomputed references equal the adapter switched off, are cached, and are checked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ftlab.data.batches import BatchIndex, build
from ftlab.data.tokens import TokenStore
from ftlab.errors import FtlabError
from ftlab.models.engine import Decoder
from ftlab.train.batch import to_device
from ftlab.train.objectives.dpo import adapter_off
from ftlab.train.objectives.reference import precomputed


@pytest.fixture
def batches(stores: dict[str, TokenStore]) -> BatchIndex:
    return build(
        stores["dpo"], seed=1, epochs=2, max_steps=None, batch_size=5, micro_batch_size=2,
        max_length=32, overlong="truncate", packing=False,
    )  # fmt: skip


def test_equals_adapter_off_for_every_row(
    small_decoder: Callable[..., Decoder], batches: BatchIndex, tmp_path: Path
) -> None:
    decoder, done = small_decoder(), []
    rows = len(batches.store)
    reference = precomputed(decoder, batches, rows, tmp_path / "r.npy", "key", done.append)
    assert done == list(range(1, batches.steps + 1))
    assert reference.table.shape == (rows, 2)
    for step in batches:
        for micro in step.micro:
            batch = to_device(micro, "cpu")
            torch.testing.assert_close(reference(decoder, batch), adapter_off(decoder, batch))


def test_is_computed_once(
    small_decoder: Callable[..., Decoder], batches: BatchIndex, tmp_path: Path
) -> None:
    decoder, path, rows = small_decoder(), tmp_path / "r.npy", len(batches.store)
    first = precomputed(decoder, batches, rows, path, "key")
    done: list[int] = []
    again = precomputed(decoder, batches, rows, path, "key", done.append)
    assert not done
    assert torch.equal(first.table, again.table)
    precomputed(decoder, batches, rows, path, "another key", done.append)
    assert done


def test_damaged_cache_is_computed_again(
    small_decoder: Callable[..., Decoder], batches: BatchIndex, tmp_path: Path
) -> None:
    decoder, path, rows = small_decoder(), tmp_path / "r.npy", len(batches.store)
    first = precomputed(decoder, batches, rows, path, "key")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert torch.equal(first.table, precomputed(decoder, batches, rows, path, "key").table)


def test_rows_without_a_finite_reference_are_named(
    small_decoder: Callable[..., Decoder], batches: BatchIndex, tmp_path: Path
) -> None:
    decoder = small_decoder()
    decoder.norm.base.data.fill_(float("nan"))
    with pytest.raises(FtlabError, match="no finite log-probability for rows"):
        precomputed(decoder, batches, len(batches.store), tmp_path / "r.npy", "key")
    assert not (tmp_path / "r.npy").exists()
