"""DPO's reference log-probabilities computed once, before the first step, and kept with the run.

    data/NAME.npy   fp32 [rows of the store, 2], chosen and rejected; NaN where a row is not used
    data/NAME.json  key and sha256, written last

Full fine-tuning needs them, because the weights that define the reference are changed by training.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.train.batch import to_device
from ftlab.train.objectives.dpo import pair_logprobs

if TYPE_CHECKING:
    from ftlab.data.batches import Step
    from ftlab.models.engine import Decoder
    from ftlab.train.batch import Batch

Table = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Precomputed:
    """A reference that looks its numbers up by store row."""

    table: Tensor  # fp32 [rows of the store, 2], on the CPU

    def __call__(self, model: Decoder, batch: Batch) -> Tensor:
        """Log-probabilities of chosen and rejected, fp32 [pairs, 2]."""
        return self.table[list(batch.rows)].to(model.device, non_blocking=True)


def precomputed(
    model: Decoder,
    steps: Iterable[Step],
    rows: int,
    path: Path,
    key: str,
    progress: Callable[[int], None] = lambda done: None,
) -> Precomputed:
    """The reference from the cache at `path` if it has that `key`, else from one pass over `steps`.

    Args:
        model: with the weights as they are before training; an adapter is switched off.
        steps: all steps of the run; each row is computed in the first micro-batch it occurs in.
        rows: rows of the store.
        path: where the .npy lies.
        key: hash of everything that decides the numbers: weights, batches, precision.
        progress: told how many steps are done.
    Raises:
        FtlabError: the numbers are not finite, or the cache cannot be written.
    """
    table = _read(path, key)
    if table is None:
        table = _compute(model, steps, rows, progress)
        _write(path, key, table)
    return Precomputed(torch.from_numpy(table))


def _compute(
    model: Decoder, steps: Iterable[Step], rows: int, progress: Callable[[int], None]
) -> Table:
    table = np.full((rows, 2), np.nan, np.float32)
    model.eval_mode()
    for done, step in enumerate(steps, 1):
        for micro in step.micro:
            if not np.isnan(table[micro.rows]).any():
                continue
            batch = to_device(micro, model.device)
            with torch.no_grad():
                values = pair_logprobs(model, batch, adapter=False).cpu().numpy()
            new = np.isnan(table[micro.rows])
            table[micro.rows] = np.where(new, values, table[micro.rows])
            if not np.isfinite(values).all():
                bad = micro.rows[~np.isfinite(values).all(axis=1)].tolist()
                raise FtlabError(f"the reference has no finite log-probability for rows {bad}")
        progress(done)
    return table


def _read(path: Path, key: str) -> Table | None:
    """The cached table; None when there is none, or a damaged one, or one of another key."""
    try:
        note: dict[str, Any] = atomic.read_json(path.with_suffix(".json"))
        content = path.read_bytes()
    except (FtlabError, OSError):
        return None
    if note.get("key") != key or note.get("sha256") != hashlib.sha256(content).hexdigest():
        return None
    table: Table = np.load(io.BytesIO(content), allow_pickle=False)
    return table


def _write(path: Path, key: str, table: Table) -> None:
    content = io.BytesIO()
    np.save(content, table, allow_pickle=False)
    data = content.getvalue()
    atomic.write_bytes(path, data)
    note = {"version": 1, "key": key, "sha256": hashlib.sha256(data).hexdigest()}
    atomic.write_json(path.with_suffix(".json"), note)
