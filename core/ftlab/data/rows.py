"""Read the rows of a located source through `datasets`, exactly as they were written.

JSON lines travel through `datasets` as text lines and are parsed here, since its JSON reader turns
strings that look like dates into dates, fills missing keys of nested objects with nulls, and
differs between versions. So do CSV rows, each cell the text it is. Whatever fails names file and
line.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ftlab.data.hub import quiet_datasets
from ftlab.data.messages import without_nulls
from ftlab.data.source import Located
from ftlab.errors import DataError, FtlabError, Problem, TryLater

Row = dict[str, Any] | None
_STORAGE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_SEEN = 200  # rows whose keys make the list of columns


class Table:
    """The rows of one split.

    Attributes:
        columns: names, in the order in which they are first seen.
        first: some rows from the beginning.
    """

    def __init__(self, located: Located, data: Any, *, json_lines: bool) -> None:
        self.located = located
        self._data = data
        self._json = json_lines
        self.first = next((batch for batch in self.batches(_SEEN) if batch), [])
        # A key may appear far down (tools, system), so that every line is looked at.
        self.columns = list(self._keys() if json_lines else data.column_names)

    def __len__(self) -> int:
        return len(self._data)

    def batches(self, size: int) -> Iterator[list[Row]]:
        """Rows in pieces of `size`; None for a row that is null. Blank lines of JSON are left out.

        Raises DataError for a line that is not a JSON object.
        """
        for begin in range(0, len(self._data), size):
            columns = self._data[begin : begin + size]
            if self._json:
                lines = columns["text"]
                yield [self._parse(line) for line in lines if line and not line.isspace()]
            else:
                names = list(columns)
                values = zip(*(columns[name] for name in names), strict=True)
                # Columnar files put a null for every key that another row has.
                yield [
                    {name: without_nulls(v) for name, v in zip(names, row, strict=True)}
                    for row in values
                ]

    def where(self, row: Row, number: int) -> str:
        """Where a row stands: file and line where that can be found, else its number from 1."""
        if row is not None:
            for file in self.located.files if self._json else ():
                for line, found in _numbered(file, self.located.kind):
                    if found == row:
                        return f"{file.name}, line {line}"
        return f"{self.located.name}, row {number} of {self.located.split}"

    def _keys(self) -> dict[str, None]:
        """Keys of all rows. Raises DataError for a line that is not a JSON object."""
        found: dict[str, None] = {}
        for batch in self.batches(_SEEN):
            for row in batch:
                found.update(dict.fromkeys(row or ()))
        return found

    def _parse(self, line: str) -> Row:
        try:
            row = json.loads(line)
        except ValueError:
            raise malformed(self.located) from None
        if row is not None and not isinstance(row, dict):
            raise malformed(self.located)
        return row


def read(located: Located, work: Path) -> Table:
    """Open the rows of `located`.

    Args:
        located: from `source.locate`.
        work: folder for what `datasets` derives from local files; the caller deletes it.

    Raises:
        DataError: no rows, or a file that is not what its name says.
    """
    with quiet_datasets() as datasets:
        try:
            data = _load(datasets, located, work)
        except DataError:
            raise
        except Exception as error:
            if "corresponds to no data" in str(error):
                raise _data(f"{located.describe()} has no rows") from None
            raise _unreadable(located, error) from error
    lines = located.kind in ("json", "csv")
    table = Table(located, data, json_lines=lines)
    if not table.first:
        raise _data(f"{located.describe()} has no rows")
    return table


def malformed(located: Located) -> DataError:
    """The first line of a JSON source that is not an object, with its number and what is wrong."""
    for file in located.files:
        try:
            for number, text in enumerate(_lines(file), 1):
                wrong = _wrong_line(text)
                if wrong:
                    return _data(f"{file}, line {number}: {wrong}")
        except (UnicodeDecodeError, OSError, EOFError) as error:
            return _data(f"{file} cannot be read as UTF-8 text: {error}")
    return _data(f"{located.name} is not JSON lines")


def _load(datasets: Any, located: Located, work: Path) -> Any:
    """The `datasets.Dataset` of a split."""
    if located.builder is not None:
        located.builder.download_and_prepare(verification_mode="no_checks")
        return located.builder.as_dataset(split=located.split)
    if located.folder is not None:
        return _load_saved(datasets, located)
    name = located.split.partition("[")[0].strip()
    files, kind = list(located.files), located.kind
    if kind == "json":
        files, kind = [_as_lines(file, work) for file in files], "text"
    if kind == "csv":
        header = _csv_header(files)
        files, kind = [_csv_as_lines(file, header, work) for file in files], "text"
    options: dict[str, Any] = {}
    if kind == "text":
        features = datasets.Features({"text": datasets.Value("string")})
        options = {"encoding": "utf-8-sig", "features": features}
    return datasets.load_dataset(
        kind,
        data_files={name: [str(file.resolve()) for file in files]},
        split=located.split,
        cache_dir=str(work / f"arrow-{located.identity[:16]}"),
        **options,
    )


def _load_saved(datasets: Any, located: Located) -> Any:
    data = datasets.load_from_disk(str(located.folder))
    splits = data if isinstance(data, datasets.DatasetDict) else {"train": data}
    sizes = {name: len(part) for name, part in splits.items()}
    parts = [
        splits[part.splitname].select(range(part.from_, part.to))
        for part in datasets.ReadInstruction.from_spec(located.split).to_absolute(sizes)
    ]
    return parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)


def _as_lines(file: Path, work: Path) -> Path:
    """A JSON file as JSON lines: itself, or for one array (or object of one) a copy in `work`."""
    with _open(file) as stream:
        head = stream.read(4096).lstrip()
    if not head:
        raise _data(f"{file} is empty")
    if not head.startswith("[") and not (head.startswith("{") and _wrong_line(_first_line(file))):
        return file
    rows = _whole(file)
    if rows is None:
        return file  # broken lines: reading them says which
    return _copy(map(json.dumps, rows), work)


def _whole(file: Path) -> list[Any] | None:
    """Rows of a file that is one JSON value; None when it is not one."""
    with _open(file) as stream:
        text = stream.read()
    try:
        value = json.loads(text)
    except ValueError as error:
        if text.lstrip().startswith("["):
            raise _data(
                f"{file}, line {getattr(error, 'lineno', 1)}: not valid JSON: {error}"
            ) from None
        return None
    if isinstance(value, dict):
        lists = [part for part in value.values() if isinstance(part, list)]
        value = lists[0] if len(lists) == 1 else [value]
    if value and all(isinstance(row, str) for row in value):
        return [{"text": row} for row in value]
    for number, row in enumerate(value, 1):
        if row is not None and not isinstance(row, dict):
            raise _data(f"{file}, item {number}: {_kind(row)}, expected an object")
    return list(value)


def _csv_as_lines(file: Path, header: list[str], work: Path) -> Path:
    """A CSV file as JSON lines in `work`: every cell the text it is, nothing is guessed."""

    def lines() -> Iterator[str]:
        for number, cells in _csv_rows(file):
            if len(cells) != len(header):
                raise _data(
                    f"{file}, line {number}: {len(cells)} cells, but the header has {len(header)}"
                )
            yield json.dumps(dict(zip(header, cells, strict=True)))

    return _copy(lines(), work)


def _csv_header(files: Sequence[Path]) -> list[str]:
    """Column names of CSV files, which must agree."""
    headers = [next((cells for _, cells in _csv_rows(file, skip=0)), []) for file in files]
    repeated = sorted({name for name in headers[0] if headers[0].count(name) > 1})
    if repeated:
        raise _data(f"{files[0]}: column {', '.join(map(repr, repeated))} appears twice")
    if any(header != headers[0] for header in headers):
        raise _data(f"the CSV files of {files[0].parent} have different columns")
    return headers[0]


def _csv_rows(file: Path, skip: int = 1) -> Iterator[tuple[int, list[str]]]:
    """(line number, cells) of a CSV file after `skip` rows; blank lines are left out."""
    separator = "\t" if ".tsv" in [suffix.lower() for suffix in file.suffixes] else ","
    limit = csv.field_size_limit(1 << 30)  # a cell may hold a whole document
    try:
        with _open(file, newline="") as stream:
            reader = csv.reader(stream, delimiter=separator, strict=True)
            rows = ((reader.line_num, cells) for cells in reader if cells)
            yield from itertools.islice(rows, skip, None)
    except csv.Error as error:
        raise _data(f"{file}, line {reader.line_num}: not valid CSV: {error}") from None
    finally:
        csv.field_size_limit(limit)


def _copy(lines: Iterable[str], work: Path) -> Path:
    work.mkdir(parents=True, exist_ok=True)
    copy = work / f"{sum(1 for _ in work.iterdir())}.jsonl"
    with copy.open("w", encoding="utf-8") as out:
        out.writelines(line + "\n" for line in lines)
    return copy


def _open(file: Path, newline: str | None = None) -> IO[str]:
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rt", encoding="utf-8-sig", newline=newline)
    return file.open(encoding="utf-8-sig", newline=newline)


def _lines(file: Path) -> Iterator[str]:
    with _open(file) as stream:
        yield from stream


def _first_line(file: Path) -> str:
    return next((line for line in _lines(file) if not line.isspace()), "")


def _wrong_line(text: str) -> str:
    """What is wrong with a line of JSON, "" when nothing is."""
    if not text or text.isspace():
        return ""
    try:
        value = json.loads(text)
    except ValueError as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        column = f" (column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        return f"not valid JSON: {reason}{column}"
    if value is None or isinstance(value, dict):
        return ""
    return f'{_kind(value)}, expected an object such as {{"prompt": "..."}}'


def _kind(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number"}
    return names.get(type(value), "a number")


def _numbered(file: Path, kind: str) -> Iterator[tuple[int, Any]]:
    """(line number, row) of a file of JSON lines or CSV; lines that cannot be read are left out."""
    if kind == "csv":
        header = _csv_header([file])
        for number, cells in _csv_rows(file):
            yield number, dict(zip(header, cells, strict=False))
        return
    for number, text in enumerate(_lines(file), 1):
        with contextlib.suppress(ValueError):
            yield number, json.loads(text)


def _unreadable(located: Located, error: Exception) -> FtlabError:
    """Our error for what `datasets` raised while reading."""
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    if located.kind == "json":
        return malformed(located)
    if isinstance(cause, OSError) and cause.errno in _STORAGE:
        raise cause  # the cache, not the data: said by the caller that owns it
    names = {cls.__name__ for cls in type(cause).__mro__}
    if located.builder is not None and names & {"ConnectionError", "TimeoutException", "Timeout"}:
        return TryLater(f"data.source: {located.name} cannot be downloaded now: {cause}")
    shown = ", ".join(str(file) for file in located.files[:3]) or located.name
    return _data(f"{shown} cannot be read as {located.kind}: {type(cause).__name__}: {cause}")


def _data(message: str) -> DataError:
    return DataError([Problem("data.source", message)])
