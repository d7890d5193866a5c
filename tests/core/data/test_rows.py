"""Rows arrive exactly as written, from every kind of file; faults name file and line."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.data import source
from ftlab.data.rows import Table, read
from ftlab.errors import DataError

Write = Callable[..., Path]
ROWS: list[dict[str, Any]] = [
    {"text": "2020-01-01", "n": 1, "m": [{"role": "user", "content": "a"}]},
    {"text": "line\u2028two\r\nthree", "n": 2.5, "m": [{"role": "tool", "x": None, "y": [1]}]},
    {"text": "ü😀", "n": None, "extra": {"a": 1}},
]


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Table]:
    """`table(path)`: the rows of a source."""

    def open_table(path: Any, **options: Any) -> Table:
        return read(source.locate(str(path), **options), tmp_path / "work")

    return open_table


def rows_of(table: Table) -> list[Any]:
    return [row for batch in table.batches(2) for row in batch]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.ndjson"])
def test_json_lines_are_exact(write_rows: Write, table: Any, name: str) -> None:
    found = table(write_rows(name, ROWS))
    assert rows_of(found) == ROWS
    assert found.columns == ["text", "n", "m", "extra"]
    assert len(found) == 3


def test_json_arrays_objects_and_odd_lines(tmp_path: Path, table: Any) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(ROWS, indent=2))
    assert rows_of(table(path)) == ROWS
    path.write_text(json.dumps({"version": 1, "data": ROWS}, indent=2))
    assert rows_of(table(path)) == ROWS
    path.write_text(json.dumps(["a", "b"]))
    assert rows_of(table(path)) == [{"text": "a"}, {"text": "b"}]
    path.write_text("\ufeff\n" + "\n\n".join(json.dumps(row) for row in ROWS) + "\n\n")
    assert rows_of(table(path)) == ROWS
    path.write_text('{"a": 1}\nnull\n{"a": 2}')
    assert rows_of(table(path)) == [{"a": 1}, None, {"a": 2}]
    path.write_bytes(gzip.compress(json.dumps(ROWS).encode()))
    path.rename(tmp_path / "b.json.gz")
    assert rows_of(table(tmp_path / "b.json.gz")) == ROWS


def test_csv_cells_stay_text(tmp_path: Path, table: Any) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q,a,note\n"what, then?",007,NA\n"two\nlines",1.50,\n')
    assert rows_of(table(path)) == [
        {"q": "what, then?", "a": "007", "note": "NA"},
        {"q": "two\nlines", "a": "1.50", "note": ""},
    ]
    (tmp_path / "a.tsv").write_text("q\ta\nx\t1\n")
    assert rows_of(table(tmp_path / "a.tsv")) == [{"q": "x", "a": "1"}]
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"\xef\xbb\xbfq,a\nx,1\n"))
    assert rows_of(table(tmp_path / "b.csv.gz")) == [{"q": "x", "a": "1"}]


def test_texts_are_lines(tmp_path: Path, table: Any) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one\n\n two \nthree")
    assert [row["text"] for row in rows_of(table(path))] == ["one", "", " two ", "three"]


def test_parquet_and_saved_and_cards(tmp_path: Path, table: Any, write_rows: Write) -> None:
    import datasets

    rows = [{"m": [{"role": "user", "content": "a"}]}, {"m": [{"role": "tool", "name": "n"}]}]
    data = datasets.Dataset.from_list(rows)
    data.to_parquet(str(tmp_path / "a.parquet"))
    assert rows_of(table(tmp_path / "a.parquet")) == rows  # without the nulls that Parquet adds
    data.save_to_disk(str(tmp_path / "saved"))
    assert rows_of(table(tmp_path / "saved")) == rows
    assert rows_of(table(tmp_path / "saved", split="train[1:]")) == rows[1:]
    both = datasets.DatasetDict({"train": data, "test": data})
    both.save_to_disk(str(tmp_path / "both"))
    assert rows_of(table(tmp_path / "both", split="train[:1]+test[-1:]")) == rows
    write_rows("card/x/one.jsonl", [{"text": "a"}])
    (tmp_path / "card" / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files: x/*.jsonl\n---\n"
    )
    assert rows_of(table(tmp_path / "card")) == [{"text": "a"}]


def test_slices_and_several_files(write_rows: Write, table: Any, tmp_path: Path) -> None:
    write_rows("d/a.jsonl", [{"text": str(i)} for i in range(6)])
    write_rows("d/b.jsonl", [{"text": str(i)} for i in range(6, 10)])
    for split, expected in {
        "train": "0123456789",
        "train[:3]": "012",
        "train[-2:]": "89",
        "train[50%:]": "56789",
        "train[:1]+train[8:]": "089",
    }.items():
        found = rows_of(table(tmp_path / "d", split=split))
        assert "".join(row["text"] for row in found) == expected


def test_changed_files_are_read_again(write_rows: Write, table: Any) -> None:
    path = write_rows("a.jsonl", [{"text": "one"}])
    assert rows_of(table(path)) == [{"text": "one"}]
    state = path.stat()
    path.write_text('{"text": "two"}\n')
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))  # same size, same time
    assert rows_of(table(path)) == [{"text": "two"}]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"a": 1}', '{"a": 2'], r"line 2: not valid JSON: Expecting ',' delimiter \(column 8\)"),
        (['{"a": 1}', "", "oops"], "line 3: not valid JSON"),
        (['{"a": 1}', "[1]"], 'line 2: a list, expected an object such as {"prompt"'),
        (['{"a": 1}', '"x"'], "line 2: a text, expected an object"),
        (['{"a": 1}', "5"], "line 2: a number"),
    ],
)
def test_malformed_lines_name_file_and_number(
    tmp_path: Path, table: Any, lines: list[str], message: str
) -> None:
    for name in ("bad.jsonl", "bad.jsonl.gz"):
        text = "\n".join(lines)
        path = tmp_path / name
        if name.endswith(".gz"):
            path.write_bytes(gzip.compress(text.encode()))
        else:
            path.write_text(text)
        with pytest.raises(DataError, match=f"{name}, {message}"):
            rows_of(table(path))


def test_malformed_lines_far_down_are_found(tmp_path: Path, table: Any) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text('{"text": "x"}\n' * 1500 + "{\n")
    with pytest.raises(DataError, match=r"bad.jsonl, line 1501: not valid JSON"):
        table(path)


def test_keys_that_only_late_rows_have_are_columns(write_rows: Write, table: Any) -> None:
    path = write_rows("a.jsonl", [{"text": "x"}] * 900 + [{"text": "y", "system": "s"}])
    assert table(path).columns == ["text", "system"]


def test_other_broken_files(tmp_path: Path, table: Any) -> None:
    cases = {
        "a.json": (b'[{"a": 1}, {]', r"a.json, line 1: not valid JSON"),
        "b.json": (b'[{"a": 1}, 5]', r"b.json, item 2: a number"),
        "c.jsonl": (b'{"a": "\xff\xfe"}\n', "cannot be read as UTF-8"),
        "d.jsonl.gz": (b"not gzip", "d.jsonl.gz cannot be read"),
        "e.csv": (b"a,b\n1,2\n1,2,3\n", "e.csv, line 3: 3 cells, but the header has 2"),
        "l.csv": (b'a,b\n1,2\n"1,2\n', "l.csv, line 3: not valid CSV: unexpected end"),
        "m.csv": (b"a,b\n1,\xff\n", "m.csv cannot be read as csv: UnicodeDecodeError"),
        "f.csv": (b"a,a\n1,2\n", "column 'a' appears twice"),
        "g.parquet": (b"nonsense", "g.parquet cannot be read as parquet"),
        "h.jsonl": (b" \n\n", "has no rows|is empty"),
        "i.csv": (b"a,b\n", "has no rows"),
        "j.txt": (b"\xff\xff\n", "j.txt cannot be read as text"),
        "k.json": (b"[]", "has no rows"),
    }
    for name, (data, message) in cases.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(DataError, match=message):
            rows_of(table(tmp_path / name))


def test_different_headers_are_refused(tmp_path: Path, table: Any) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    (tmp_path / "b.csv").write_text("a,c\n1,2\n")
    with pytest.raises(DataError, match="have different columns"):
        table(tmp_path / "*.csv")


def test_where_a_row_stands(write_rows: Write, table: Any, tmp_path: Path) -> None:
    found = table(write_rows("a.jsonl", ROWS), split="train[1:]")
    assert found.where(ROWS[2], 2) == "a.jsonl, line 3"
    (tmp_path / "a.csv").write_text("a\n1\n")
    assert table(tmp_path / "a.csv").where({"a": "1"}, 1) == "a.csv, line 2"
    (tmp_path / "a.txt").write_text("1\n")
    where = table(tmp_path / "a.txt").where({"text": "1"}, 1)
    assert where == f"{tmp_path / 'a.txt'}, row 1 of train"
