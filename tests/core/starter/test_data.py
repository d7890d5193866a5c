"""The starter task: deterministic, split cleanly, and right in its own records."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ftlab.starter.data import DAYS, FORMS, SEED, TRAIN_ROWS, orders, preference_row, sft_row, write
from ftlab.starter.words import HELD_OUT, TRAIN, Words


def _vocabulary(words: Words) -> set[str]:
    texts = (words.first_names, words.last_names, words.towns, words.kinds, words.things)
    return {word for text in texts for word in text} | {str(count) for count in words.counts}


def test_the_two_sides_share_no_word() -> None:
    assert not _vocabulary(TRAIN) & _vocabulary(HELD_OUT)


@pytest.mark.parametrize("words", [TRAIN, HELD_OUT])
def test_no_word_is_listed_twice(words: Words) -> None:
    for name in Words.__dataclass_fields__:
        listed = getattr(words, name)
        assert len(set(listed)) == len(listed), name


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    for name in ("train", "held_out", "preference", "preference_held_out"):
        assert getattr(first, name).read_bytes() == getattr(second, name).read_bytes()
    other = write(tmp_path / "c", seed=SEED + 1)
    assert other.train.read_bytes() != first.train.read_bytes()
    assert not list(tmp_path.glob("*/.*"))  # nothing half-written stays


def test_orders_are_known_and_different() -> None:
    made = orders(TRAIN, TRAIN_ROWS, SEED)
    assert len({order.sentence for order in made}) == TRAIN_ROWS
    assert made[:3] == orders(TRAIN, 3, SEED)


@pytest.mark.parametrize("words", [TRAIN, HELD_OUT])
def test_a_record_says_what_its_sentence_says(words: Words) -> None:
    for order in orders(words, 120, 1):
        count, item, name, town, short = order.record.split(" | ")
        day = next(long for long, known in DAYS.items() if known == short)
        for part in (count, item, name, town, day):
            assert re.search(rf"\b{re.escape(part)}\b", order.sentence), (part, order.sentence)


def test_every_form_is_used_equally() -> None:
    made = orders(TRAIN, 10 * len(FORMS), 5)
    heads = [form.split("{")[0] for form in FORMS if not form.startswith("{")]
    assert [sum(o.sentence.startswith(head) for o in made) for head in heads] == [10] * len(heads)


def test_rows_are_chats(tmp_path: Path) -> None:
    order = orders(TRAIN, 1, 0)[0]
    assert [m["role"] for m in sft_row(order)["messages"]] == ["system", "user", "assistant"]
    rows = [json.loads(line) for line in write(tmp_path).train.read_text().splitlines()]
    assert len(rows) == TRAIN_ROWS
    assert all(set(row) == {"messages"} for row in rows)


def test_every_slip_differs_from_the_record() -> None:
    order = orders(TRAIN, 1, 0)[0]
    slips = [preference_row(order, n)["rejected"][0]["content"] for n in range(4)]
    assert len(set(slips)) == 4
    assert order.record not in slips
    assert preference_row(order, 4)["rejected"] == preference_row(order, 0)["rejected"]
