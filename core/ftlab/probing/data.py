"""Facts about the data: prepared once into a token store, remembered until something changes."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ftlab import versions
from ftlab.facts import DataFacts, ModelFacts, from_json, to_json
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
    lengths = _lengths(config, model, train)
    return _counted(train, lengths, config), (
        _counted(evaluation, lengths, config) if evaluation else None
    )


def _counted(data: DataFacts, lengths: set[int], config: RunConfig) -> DataFacts:
    inside = {min(length, data.longest) for length in lengths}
    counts = usable_at(data.store, inside, config.data.overlong)
    return dataclasses.replace(data, usable=counts)


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
    for source in (config.data.source, config.data.eval_source):
        if source is None:
            continue
        listed = _stats(Path(source).expanduser())
        if listed is None and os.environ.get("HF_HUB_OFFLINE") != "1":
            return ""  # the hub may have a newer revision
        stats.append(listed)
    template = _stats(Path(config.data.chat_template).expanduser())
    return remember.key(
        "data",
        to_json(config.data),
        [config.model.max_length, config.method.kind, os.getcwd()],
        [model.hashes.get(name) for name in ("config", "tokenizer", "template")],
        [stats, template],
        versions.installed(("transformers", "tokenizers", "datasets")),
        versions.source_sha256("ftlab"),
    )


def _stats(path: Path) -> list[Any] | None:
    """Name, size and time of a file, or of every file in a folder; None when there is none."""
    if path.is_file():
        return [_stat(path)]
    if not path.is_dir():
        return None
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return [_stat(file) for file in files[:FILES_LISTED]] + [len(files)]


def _stat(path: Path) -> list[Any]:
    state = path.stat()
    return [str(path.resolve()), state.st_size, state.st_mtime_ns]


def usable_at(store_dir: str, lengths: Iterable[int], overlong: Any) -> dict[str, Any]:
    """max_length -> (usable rows, tokens of their sequences, trained tokens) of one epoch."""
    from ftlab.data.tokens import TokenStore
    from ftlab.data.usable import usable_rows

    store = TokenStore.open(store_dir, verify=False)
    found: dict[str, Any] = {}
    for length in sorted(set(lengths)):
        usable = usable_rows(store, length, overlong)
        trained = int(trained_within(store, length)[usable.rows].sum())
        found[str(length)] = (len(usable.rows), int(usable.tokens.sum()), trained)
    return found


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
