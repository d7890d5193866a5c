"""Facts about the data: prepared once into a token store, remembered until something changes."""

from __future__ import annotations

import dataclasses
import glob
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftlab import versions
from ftlab.facts import DataFacts, ModelFacts, from_json, to_json
from ftlab.offline import is_offline
from ftlab.probing import remember
from ftlab.schema import RunConfig

LENGTHS = (2048, 4096)  # what model.max_length: auto may choose besides the longest row
FILES_LISTED = 10_000


def data_facts(
    config: RunConfig, model: ModelFacts, *, cache: bool = True
) -> tuple[DataFacts, DataFacts | None]:
    """Prepare training and evaluation data and describe both.

    Raises:
        DataError: a source cannot be read as configured.
    """
    key = _key(config, model)
    known = remember.load("data", key) if cache and key else None
    if known and all(_store_exists(item) for item in known if item):
        train, evaluation = (from_json(DataFacts, item) if item else None for item in known)
        if train is not None:
            return train, evaluation
    train, evaluation = _prepare(config, model)
    if key:
        remember.save("data", key, [to_json(train), to_json(evaluation)])
    return train, evaluation


def _prepare(config: RunConfig, model: ModelFacts) -> tuple[DataFacts, DataFacts | None]:
    from ftlab.data.prepare import prepare

    train, evaluation = prepare(config, model)
    lengths, overlong = _lengths(config, model, train), config.data.overlong
    train = counted(train, lengths, overlong)
    return train, counted(evaluation, lengths, overlong) if evaluation else None


def _lengths(config: RunConfig, model: ModelFacts, data: DataFacts) -> set[int]:
    """Every max_length that the plan may choose."""
    asked = config.model.max_length
    if asked != "auto":
        return {asked}
    return {data.longest, model.max_positions, *LENGTHS}


def _store_exists(data: Any) -> bool:
    return (Path(data["store"]) / "meta.json").is_file()


def _key(config: RunConfig, model: ModelFacts) -> str:
    """A hash of all that decides the facts; "" when that cannot be told without the network."""
    stats: list[Any] = []
    for source in filter(None, (config.data.source, config.data.eval_source)):
        listed = _stats(source)
        if listed is None and not is_offline():
            return ""  # the hub may have a newer revision
        stats.append(listed)
    template = _stats(config.data.chat_template)
    return remember.key(
        "data",
        to_json(config.data),
        [config.model.max_length, config.method.kind, os.getcwd()],
        [model.hashes.get(name) for name in ("config", "tokenizer", "template")],
        [stats, template],
        versions.installed(("transformers", "tokenizers", "datasets")),
        versions.source_sha256("ftlab"),
    )


def _stats(source: str) -> list[Any] | None:
    """Name, size and time of every file of a local source (SOURCE or SOURCE:SPLIT), or None."""
    for name in (source, source.rpartition(":")[0]):
        path = Path(name).expanduser()
        if name and path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            return [_stat(file) for file in files[:FILES_LISTED]] + [len(files)]
        files = [path] if path.is_file() else sorted(map(Path, glob.glob(str(path))))
        if name and files:
            return [_stat(file) for file in files if file.is_file()]
    return None


def _stat(path: Path) -> list[Any]:
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def counted(data: DataFacts, lengths: Iterable[int], overlong: Any) -> DataFacts:
    """The facts with exact counts at every max_length that the plan may choose."""
    from ftlab.data.tokens import TokenStore
    from ftlab.data.usable import usable_rows

    store = TokenStore.open(data.store, verify=False)
    longest = store.lengths().max(axis=1)
    usable: dict[str, tuple[int, int, int]] = {}
    over = dict(data.over)
    for length in sorted({min(length, data.longest) for length in lengths}):
        found = usable_rows(store, length, overlong)
        trained = int(trained_within(store, length)[found.rows].sum())
        usable[str(length)] = (len(found.rows), int(found.tokens.sum()), trained)
        over[str(length)] = int((longest > length).sum())
    return dataclasses.replace(data, usable=usable, over=over)


def trained_within(store: Any, length: int) -> Any:
    """Trained tokens of each row with every sequence cut at `length`, int64 [R]."""
    import numpy as np

    from ftlab.data.tokens import row_chunks

    counts = [np.zeros(0, np.int64)]
    for begin, end in row_chunks(store.rows):
        bounds = np.asarray(store.rows[begin:end])
        base = int(bounds[0, 0])
        marks = store.trained[base : int(bounds[-1, -1])]
        running = np.concatenate([[0], np.cumsum(marks, dtype=np.int64)])
        if bounds.shape[1] == 2:
            ranges = [(bounds[:, 0], np.minimum(bounds[:, 1], bounds[:, 0] + length))]
        else:
            room = np.maximum(length - (bounds[:, 1] - bounds[:, 0]), 0)
            ranges = [
                (bounds[:, side], np.minimum(bounds[:, side + 1], bounds[:, side] + room))
                for side in (1, 2)
            ]
        counts.append(sum(running[stop - base] - running[start - base] for start, stop in ranges))
    return np.concatenate(counts)
