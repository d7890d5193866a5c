"""The batch index: every batch of a run, decided before step 0 and hashed.

Order. The rows of epoch e (counted from 0) are sorted by the 64-bit numbers that the counter-based
generator Philox4x64 with key (seed, e) gives them in store order; numpy guarantees that stream of
bits. Steps take `batch_size` rows (pairs) in that order; the last step of an epoch may be smaller.

Hash of a step: see `hashing`. It does not depend on how the rows are laid out in micro-batches; the
sha256 of the index does.

Files: step_offsets.npy int64 [S+1] into micro-batches, micro_offsets.npy int64 [M+1] into rows,
rows.npy int64 [n] store rows, hashes.npy uint64 [S], trained.npy int64 [S], index.json.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ftlab.data.hashing import hash_steps, offsets
from ftlab.data.pack import lay_out
from ftlab.data.tokens import TokenStore
from ftlab.data.usable import Overlong, Usable, usable_rows
from ftlab.errors import DataError

INDEX_VERSION = 1
IGNORED = -100
_ARRAYS = ("step_offsets", "micro_offsets", "rows", "hashes", "trained")

Array = npt.NDArray[Any]


class IndexDamaged(DataError):
    """A batch index is missing or changed, or belongs to another token store."""


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Sequences beside each other on one token axis of T tokens, without padding.

    Attributes:
        input_ids: int64 [T].
        position_ids: int64 [T], from 0 in every sequence.
        cu_seqlens: int32 [n+1], boundaries of the n sequences.
        labels: int64 [T], the next token where it is trained, else -100.
        rows: int64 [n_rows], store row of each row.
        sequences_per_row: 1, or 2 for preference pairs (prompt + chosen, then prompt + rejected).
    """

    input_ids: Array
    position_ids: Array
    cu_seqlens: Array
    labels: Array
    rows: Array
    sequences_per_row: int


@dataclass(frozen=True, slots=True)
class Step:
    """One optimizer step: all its micro-batches."""

    index: int
    epoch: int  # counted from 0
    batch_hash: int
    trained_tokens: int  # labels that are not -100, over all micro-batches
    micro: list[MicroBatch]


@dataclass(frozen=True, slots=True)
class BatchIndex:
    """Every batch of a run. Made by `build`, or read by `BatchIndex.open`."""

    store: TokenStore
    header: Mapping[str, Any]  # what index.json says, without the sha256
    step_offsets: Array
    micro_offsets: Array
    rows: Array
    hashes: Array
    trained: Array
    sha256: str

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return len(self.hashes)

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one full pass over the usable rows."""
        return int(self.header["steps_per_epoch"])

    @property
    def rows_per_epoch(self) -> int:
        """Rows (pairs) that are usable at max_length."""
        return int(self.header["rows_per_epoch"])

    @property
    def skipped(self) -> dict[str, int]:
        """Reason -> rows left out of every epoch."""
        return dict(self.header["skipped"])

    @property
    def truncated(self) -> int:
        """Rows cut at max_length."""
        return int(self.header["truncated"])

    @property
    def trained_tokens(self) -> int:
        """Trained tokens of the whole run."""
        return int(self.trained.sum())

    def step_rows(self, step: int) -> Array:
        """Store rows of a step in layout order, int64."""
        first, last = self.micro_offsets[self.step_offsets[step : step + 2]]
        return np.asarray(self.rows[first:last])

    def step(self, step: int) -> Step:
        """The batches of optimizer step `step`, counted from 0.

        Raises:
            IndexError: there is no such step.
        """
        if not 0 <= step < self.steps:
            raise IndexError(f"step {step} of {self.steps}")
        first, last = (int(bound) for bound in self.step_offsets[step : step + 2])
        bounds = self.micro_offsets[first : last + 1]
        micro = [
            micro_batch(self.store, np.asarray(self.rows[a:b]), int(self.header["max_length"]))
            for a, b in itertools.pairwise(bounds)
        ]
        return Step(
            step,
            step // self.steps_per_epoch,
            int(self.hashes[step]),
            int(self.trained[step]),
            micro,
        )

    def __iter__(self) -> Iterator[Step]:
        return (self.step(step) for step in range(self.steps))

    def save(self, path: str | Path) -> None:
        """Write the files into `path`, each renamed into place, index.json last."""
        folder = Path(path)
        folder.mkdir(parents=True, exist_ok=True)
        for name in _ARRAYS:
            beside = folder / f"{name}.npy.tmp"
            with beside.open("wb") as file:
                np.save(file, getattr(self, name), allow_pickle=False)
            os.replace(beside, folder / f"{name}.npy")
        beside = folder / "index.json.tmp"
        beside.write_text(json.dumps({**self.header, "sha256": self.sha256}, indent=1))
        os.replace(beside, folder / "index.json")

    @classmethod
    def open(cls, path: str | Path, store: TokenStore) -> BatchIndex:
        """Read an index and check its sha256 and that it was made for `store`.

        Raises:
            IndexDamaged: files are missing or changed, or the store is another one.
        """
        folder = Path(path)
        try:
            header = json.loads((folder / "index.json").read_text())
            stated = header.pop("sha256")
            arrays = {
                name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
                for name in _ARRAYS
            }
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IndexDamaged(f"batch index in {folder} cannot be read: {error}") from None
        if header.get("store_sha256") != store.sha256:
            raise IndexDamaged(
                f"batch index in {folder} was made for another token store "
                f"({str(header.get('store_sha256'))[:12]}, given {store.sha256[:12]})"
            )
        if _sha256(header, arrays) != stated:
            raise IndexDamaged(f"batch index in {folder} changed since it was written")
        return cls(store, header, **arrays, sha256=stated)


def build(
    store: TokenStore,
    *,
    seed: int,
    epochs: float,
    max_steps: int | None,
    batch_size: int,
    micro_batch_size: int,
    max_length: int,
    overlong: Overlong,
    packing: bool,
    shuffle: bool = True,
    ranks: int = 1,
) -> BatchIndex:
    """Decide every batch of a run.

    Args:
        seed: fixes the order of the rows.
        epochs: passes over the usable rows, fractions allowed (rounded up to whole steps).
        max_steps: number of steps; overrides `epochs` and wraps into further epochs.
        batch_size: rows (pairs) of an optimizer step.
        micro_batch_size: rows of a micro-batch; with `packing`, a micro-batch holds up to
            micro_batch_size * max_length tokens (twice that for pairs).
        max_length: longest sequence in tokens; see `usable.usable_rows` for what happens beyond.
        overlong: "drop" or "truncate".
        packing: lay short rows beside each other.
        shuffle: False keeps store order, for evaluation.
        ranks: processes that share each step.

    Raises:
        DataError: no row is usable.
    """
    usable = usable_rows(store, max_length, overlong)
    if not len(usable.rows):
        raise DataError(_nothing_usable(store, usable, max_length))
    count = len(usable.rows)
    steps_per_epoch = math.ceil(count / batch_size)
    steps = max_steps if max_steps is not None else epoch_steps(epochs, steps_per_epoch)
    picked, sizes = _order(count, seed=seed, steps=steps, batch_size=batch_size, shuffle=shuffle)
    capacity = micro_batch_size * max_length * store.sequences_per_row if packing else None
    order, micro_sizes, micro_counts = lay_out(
        usable.tokens[picked],
        sizes,
        capacity=capacity,
        micro_batch_size=micro_batch_size,
        ranks=ranks,
    )
    rows = usable.rows[picked[order]]
    hashes, trained = hash_steps(store, rows, sizes, max_length)
    header = {
        "version": INDEX_VERSION,
        "store_sha256": store.sha256,
        "seed": seed if shuffle else None,
        "batch_size": batch_size,
        "micro_batch_size": micro_batch_size,
        "max_length": max_length,
        "overlong": overlong,
        "packing": packing,
        "steps_per_epoch": steps_per_epoch,
        "rows_per_epoch": count,
        "skipped": usable.skipped,
        "truncated": usable.truncated,
        **({"ranks": ranks} if packing and ranks > 1 else {}),
    }
    arrays = {
        "step_offsets": offsets(micro_counts),
        "micro_offsets": offsets(micro_sizes),
        "rows": rows,
        "hashes": hashes,
        "trained": trained,
    }
    return BatchIndex(store, header, **arrays, sha256=_sha256(header, arrays))


def build_eval(
    store: TokenStore,
    *,
    batch_size: int,
    micro_batch_size: int,
    max_length: int,
    overlong: Overlong,
    packing: bool,
) -> BatchIndex:
    """The fixed batches of an evaluation: every usable row once, in store order."""
    return build(
        store,
        seed=0,
        epochs=1,
        max_steps=None,
        batch_size=batch_size,
        micro_batch_size=micro_batch_size,
        max_length=max_length,
        overlong=overlong,
        packing=packing,
        shuffle=False,
    )


def epoch_steps(epochs: float, steps_per_epoch: int) -> int:
    """Steps of a number of epochs: fractions are rounded up, at least one step."""
    return max(1, math.ceil(round(epochs * steps_per_epoch, 6)))


def permutation(count: int, *, seed: int, epoch: int) -> Array:
    """Order of `count` rows, int64: argsort of what Philox4x64 with key (seed, epoch) gives."""
    generator = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    return np.argsort(generator.random_raw(count), kind="stable").astype(np.int64)


def micro_batch(store: TokenStore, rows: Array, max_length: int) -> MicroBatch:
    """Lay the sequences of `rows` beside each other, each cut at `max_length`."""
    sequences = [
        (ids[:max_length], marks[:max_length])
        for row in rows
        for ids, marks in store.sequences(int(row))
    ]
    ids = np.concatenate([ids for ids, _ in sequences]).astype(np.int64)
    marks = np.concatenate([marks for _, marks in sequences])
    lengths = np.array([len(ids) for ids, _ in sequences], np.int64)
    bounds = offsets(lengths)
    positions = np.arange(len(ids), dtype=np.int64) - np.repeat(bounds[:-1], lengths)
    labels = np.full(len(ids), IGNORED, np.int64)
    labels[:-1] = np.where(marks[1:] == 1, ids[1:], IGNORED)
    labels[bounds[1:-1] - 1] = IGNORED  # a sequence's last token never predicts the next sequence
    return MicroBatch(
        ids, positions, bounds.astype(np.int32), labels, rows, store.sequences_per_row
    )


def _order(
    count: int, *, seed: int, steps: int, batch_size: int, shuffle: bool
) -> tuple[Array, Array]:
    """Usable rows in the order they are trained, int64 [n], and rows of each step, int64 [S]."""
    per_epoch = math.ceil(count / batch_size)
    epoch_sizes = np.full(per_epoch, batch_size, np.int64)
    epoch_sizes[-1] = count - batch_size * (per_epoch - 1)
    sizes = np.resize(epoch_sizes, steps)
    orders = []
    for epoch in range(math.ceil(steps / per_epoch)):
        order = permutation(count, seed=seed, epoch=epoch) if shuffle else np.arange(count)
        orders.append(order)
    return np.concatenate(orders)[: int(sizes.sum())], sizes


def _sha256(header: Mapping[str, Any], arrays: Mapping[str, Array]) -> str:
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in _ARRAYS:
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _nothing_usable(store: TokenStore, usable: Usable, max_length: int) -> str:
    why = ", ".join(f"{count} {reason}" for reason, count in usable.skipped.items())
    shortest = int(store.lengths().max(axis=1).min(initial=0))
    return (
        f"none of the {len(store)} rows can be trained with model.max_length {max_length}: {why}; "
        f"the shortest row has {shortest} tokens; raise model.max_length"
    )
