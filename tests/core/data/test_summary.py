"""The facts about a store, against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ftlab.data.summary import describe, sample, samples
from ftlab.data.tokens import StoreWriter


def test_numbers_of_single_answers(tmp_path: Path) -> None:
    lengths = np.array([10, 64, 65, 300, 300])
    with StoreWriter(tmp_path, preference=False) as writer:
        for length in lengths:
            writer.append(np.zeros(length), np.arange(length) >= 5, np.array([[length]]))
        found = describe(writer.finish())
    assert (found["rows"], found["tokens"], found["longest"]) == (5, 739, 300)
    assert found["trained_tokens"] == 739 - 25
    assert found["percentiles"] == {"50": 65, "90": 300, "95": 300, "99": 300}
    assert found["histogram"] == ((64, 2), (128, 1), (256, 0), (512, 2))
    assert found["over"] == {"64": 3, "128": 2, "256": 2, "512": 0}
    assert found["preference"] is False


def test_pairs_count_the_prompt_for_each_answer(tmp_path: Path) -> None:
    with StoreWriter(tmp_path, preference=True) as writer:
        writer.append(np.zeros(10), np.array([0] * 4 + [1] * 6), np.array([[4, 1, 5]]))
        found = describe(writer.finish())
    assert (found["rows"], found["tokens"], found["trained_tokens"]) == (1, 14, 6)
    assert (found["longest"], found["preference"]) == (9, True)


def test_a_pair_shows_both_answers(tmp_path: Path, tiny: Callable[..., Any]) -> None:
    tokenizer = tiny("none", add_bos=False)
    parts = [tokenizer(text)["input_ids"] for text in ("the answer", " is Yes", " is No")]
    tokens = np.concatenate(parts)
    marks = np.arange(len(tokens)) >= len(parts[0])
    with StoreWriter(tmp_path, preference=True) as writer:
        writer.append(tokens, marks, np.array([[len(part) for part in parts]]))
        store = writer.finish()
    assert sample(tokenizer, store) == "the answer⟦ is Yes⟧\n[rejected]\n⟦ is No⟧"


def test_three_rows_are_shown_and_none_twice(tmp_path: Path, tiny: Callable[..., Any]) -> None:
    tokenizer = tiny("none", add_bos=False)
    rows = [np.array(tokenizer("the answer" + " is Yes" * n)["input_ids"]) for n in (2, 9, 1, 3)]
    with StoreWriter(tmp_path, preference=False) as writer:
        for row in rows:
            writer.append(row, np.ones(len(row)), np.array([[len(row)]]))
        store = writer.finish()
    shown = samples(tokenizer, store)
    assert [text.count("Yes") for text in shown] == [2, 3, 9]
    with StoreWriter(tmp_path / "one", preference=False) as writer:
        writer.append(rows[0], np.ones(len(rows[0])), np.array([[len(rows[0])]]))
        assert len(samples(tokenizer, writer.finish())) == 1
