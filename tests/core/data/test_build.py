"""Tables become stores: counts, reasons, and faults with file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab.data import build, chat, rows, source
from ftlab.data.encode import Encoder
from ftlab.data.tokens import TokenStore
from ftlab.errors import DataError
from ftlab.schema import DataSection

Write = Callable[..., Path]


@pytest.fixture
def made(write_rows: Write, tmp_path: Path, tiny: Callable[..., Any]) -> Callable[..., TokenStore]:
    """`made(rows)`: the store of some rows."""

    def make(
        given: list[Any], style: str = "qwen3", method: str = "sft", **section: Any
    ) -> TokenStore:
        path = write_rows("rows.jsonl", given)
        table = rows.read(source.locate(str(path)), tmp_path / "work")
        settings = DataSection(**section)
        encoder = Encoder(tiny(style), chat.resolve(tiny(style), settings.chat_template))
        return build.build(table, encoder, tmp_path / "store", settings, method)

    return make


def test_counts_reasons_and_duplicates(made: Any) -> None:
    row = {"instruction": "2 + 2", "input": "", "output": "4"}
    store = made(
        [row, {**row, "output": ""}, row, None, {**row, "output": "5"}, {**row, "output": None}]
    )
    assert len(store) == 3
    assert store.meta["skipped"] == {"empty answer": 1, "output is null": 1, "row is null": 1}
    assert store.meta["duplicates"] == 1
    assert store.meta["format"] == "alpaca"
    assert store.meta["template"] == "the tokenizer's own"
    assert store.keys[0] == store.keys[1] == store.keys[2]


def test_batches_do_not_change_the_store(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [{"prompt": f"{i} + 1 =", "completion": f" {i + 1}"} for i in range(40)]
    whole = made(given).sha256
    monkeypatch.setattr(build, "_BATCH", 7)
    assert made(given).sha256 == whole


def test_a_wrong_type_names_file_line_and_column(made: Any) -> None:
    with pytest.raises(DataError) as caught:
        made([{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": 5}])
    assert str(caught.value) == (
        "data.source: rows.jsonl, line 2: column 'completion' holds a number (5), expected text"
    )


def test_nothing_to_train_lists_the_reasons(made: Any) -> None:
    with pytest.raises(DataError) as caught:
        made([{"prompt": "a", "completion": ""}, None, {"prompt": None, "completion": "b"}])
    assert "none of the 3 rows of" in str(caught.value)
    assert "1 empty answer, 1 prompt is null, 1 row is null" in str(caught.value)


def test_texts_without_template_say_how_to_get_one(made: Any) -> None:
    plain = made([{"prompt": "a", "completion": "b"}])
    assert "joined as plain text, with data.chat_template: tokenizer" in plain.meta["format_reason"]
    assert plain.meta["template"] == "none: texts are trained as they are"
    own = made([{"prompt": "a", "completion": "b"}], chat_template="tokenizer")
    assert "plain text" not in own.meta["format_reason"]
    assert len(own.tokens) > len(plain.tokens)
    other = made([{"prompt": "a", "completion": "b"}], style="none")
    assert "data.chat_template: chatml" in other.meta["format_reason"]
    text = made([{"text": "a b"}])
    assert "plain text" not in text.meta["format_reason"]


def test_preference_rows(made: Any) -> None:
    store = made(
        [
            {"prompt": "a", "chosen": " b", "rejected": " c"},
            {"prompt": "a", "chosen": " b", "rejected": " b"},
        ],
        method="dpo",
    )
    assert (len(store), store.preference) == (1, True)
    assert store.meta["skipped"] == {"chosen equals rejected": 1}


def test_the_bar_is_silent_unless_on_a_terminal(
    made: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    made([{"text": "a"}])
    assert capfd.readouterr() == ("", "")
