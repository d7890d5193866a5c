"""Tokenise the rows of a table into a store, batch by batch, in bounded memory."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ftlab.data import formats
from ftlab.data.canonical import Canonical, Plain, PlainPair, converter
from ftlab.data.encode import Encoded, Encoder
from ftlab.data.hashing import repeated, row_hashes
from ftlab.data.messages import Skipped, WrongType
from ftlab.data.rows import Row, Table
from ftlab.data.tokens import StoreWriter, TokenStore
from ftlab.errors import DataError, Problem
from ftlab.schema import DataSection

_BATCH = 512  # rows that are tokenised at once

Array = npt.NDArray[Any]
Convert = Callable[[Mapping[str, Any] | None], Canonical]


def build(
    table: Table, encoder: Encoder, folder: Path, section: DataSection, method: str
) -> TokenStore:
    """Write the store of a table into `folder`, with a progress bar on a terminal.

    Raises:
        DataError: unknown columns, a value of the wrong type (file and line named), or no row that
            can be trained (with the reasons).
    """
    fmt = formats.detect(table.columns, table.first, section, method)
    convert = converter(fmt, as_chat=section.chat_template != "auto")
    skipped: Counter[str] = Counter()
    seen: list[Array] = []
    plain = 0
    with StoreWriter(folder, preference=fmt.name == "preference") as writer:
        for canonical in _canonical(table, convert):
            plain += sum(isinstance(row, (Plain, PlainPair)) for row in canonical)
            done = encoder.encode(canonical)
            usable = [row for row in done if isinstance(row, Encoded)]
            skipped.update(str(row) for row in done if isinstance(row, Skipped))
            seen.append(_append(writer, usable))
        if not any(map(len, seen)):
            raise _nothing(table, skipped)
        return writer.finish(
            format=fmt.name,
            format_reason=fmt.reason + _joined(fmt, plain, encoder),
            skipped=dict(sorted(skipped.items())),
            duplicates=repeated(seen),
            template=encoder.describe_template(),
            template_text=encoder.template.text,
        )


def _canonical(table: Table, convert: Convert) -> Iterator[list[Canonical | Skipped]]:
    """Batches of canonical rows."""
    number = 0
    with _progress(len(table)) as bar:
        for batch in table.batches(_BATCH):
            yield [_one(table, convert, row, number + i) for i, row in enumerate(batch, 1)]
            number += len(batch)
            bar.update(len(batch))


def _one(table: Table, convert: Convert, row: Row, number: int) -> Canonical | Skipped:
    try:
        return convert(row)
    except Skipped as skipped:
        return skipped
    except WrongType as error:
        where = table.where(row, number)
        raise DataError([Problem("data.source", f"{where}: {error}")]) from None


def _append(writer: StoreWriter, rows: Sequence[Encoded]) -> Array:
    """Write rows; their hashes, uint64 [rows]."""
    if not rows:
        return np.zeros(0, np.uint64)
    tokens = np.concatenate([row.tokens for row in rows])
    marks = np.concatenate([row.marks for row in rows])
    lengths = np.array([row.lengths for row in rows], np.int64)
    writer.append(tokens, marks, lengths, np.array([row.key for row in rows], np.uint64))
    return row_hashes(tokens, lengths)


def _joined(fmt: formats.Format, plain: int, encoder: Encoder) -> str:
    """How texts were joined, where a person might expect a chat."""
    if fmt.name == "text" or not plain:
        return ""
    own = getattr(encoder.tokenizer, "chat_template", None)
    name = "tokenizer" if own else "chatml"
    return (
        "; prompt and answer are joined as plain text, with data.chat_template: "
        f"{name} they become a chat"
    )


def _nothing(table: Table, skipped: Mapping[str, int]) -> DataError:
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    return DataError(
        [
            Problem(
                "data.source",
                f"none of the {sum(skipped.values())} rows of {table.located.describe()} can be "
                f"trained: {reasons}",
            )
        ]
    )


def _progress(total: int) -> Any:
    from tqdm import tqdm

    silent = True if os.environ.get("TQDM_DISABLE") else None  # None: silent unless a terminal
    return tqdm(total=total, desc="tokenising", unit=" rows", disable=silent, leave=False)
