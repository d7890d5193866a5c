"""The starter task: turn an order, written as a sentence, into one fixed record.

    Could you get 12 copper kettles to Maria Lopez in Lisbon by Friday?
    -> 12 | copper kettles | Maria Lopez | Lisbon | Fri

Useful (a shop reads such lines) and measurable (the record is right or it is not). The base model
is told the form and gets none right. Held-out rows share no name, town, item or quantity with the
training rows, so the form is what is learned, not the answers. Everything is a function of the
seed. Standard library only.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab import atomic
from ftlab.starter.words import HELD_OUT, TRAIN, Words

SYSTEM = "Write the order as: count | item | name | town | day (Mon to Sun)."
SEED = 3407
TRAIN_ROWS = 240
HELD_OUT_ROWS = 64
DAYS = {
    "Monday": "Mon",
    "Tuesday": "Tue",
    "Wednesday": "Wed",
    "Thursday": "Thu",
    "Friday": "Fri",
    "Saturday": "Sat",
    "Sunday": "Sun",
}
FORMS = (
    "Please send {count} {item} to {name} in {town} by {day}.",
    "Customer {name} in {town} needs {count} {item} on {day}.",
    "Could you get {count} {item} to {name} in {town} by {day}?",
    "On {day}, deliver {count} {item} to {name}, {town}.",
    "{count} {item} for {name}, {town}, due {day}.",
    "I am {name} from {town} and want {count} {item} on {day}.",
)


@dataclass(frozen=True, slots=True)
class Order:
    """One order: the sentence a person writes and the record it means."""

    sentence: str
    record: str

    def prompt(self) -> list[dict[str, str]]:
        """The chat up to where the answer begins."""
        return [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": self.sentence},
        ]

    def answer(self) -> list[dict[str, str]]:
        """The answer that is wanted, as the chat's last turn."""
        return [{"role": "assistant", "content": self.record}]

    def slip(self, which: int) -> list[dict[str, str]]:
        """A plausible answer in the wrong form, as the chat's last turn; four kinds by number."""
        count, item, name, town, day = self.record.split(" | ")
        wrong = (
            f"{count}, {item}, {name}, {town}, {day}",
            json.dumps({"count": int(count), "item": item, "name": name, "town": town, "day": day}),
            f"{name} | {town} | {count} | {item} | {day}",
            f"{name} from {town} wants {count} {item} on {day}.",
        )
        return [{"role": "assistant", "content": wrong[which % len(wrong)]}]


@dataclass(frozen=True, slots=True)
class Files:
    """Where the starter's data lies; JSONL, one row a line."""

    train: Path
    held_out: Path
    preference: Path
    preference_held_out: Path


def write(folder: Path, seed: int = SEED) -> Files:
    """Write every file of the starter into `folder`; the same seed gives the same bytes."""
    with atomic.clear_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    train, held_out = orders(TRAIN, TRAIN_ROWS, seed), orders(HELD_OUT, HELD_OUT_ROWS, seed)
    files = Files(*(folder / f"{name}.jsonl" for name in Files.__dataclass_fields__))
    _write_rows(files.train, map(sft_row, train))
    _write_rows(files.held_out, map(sft_row, held_out))
    _write_rows(files.preference, map(preference_row, train, range(len(train))))
    _write_rows(files.preference_held_out, map(preference_row, held_out, range(len(held_out))))
    return files


def sft_row(order: Order) -> dict[str, Any]:
    """One row for SFT, a chat."""
    return {"messages": order.prompt() + order.answer()}


def preference_row(order: Order, number: int) -> dict[str, Any]:
    """One row for DPO: the right record against a plausible wrong form."""
    return {"prompt": order.prompt(), "chosen": order.answer(), "rejected": order.slip(number)}


def _write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    atomic.write_text(path, text, durable=False)


def orders(words: Words, count: int, seed: int) -> list[Order]:
    """`count` different orders from `words`, the same for the same seed."""
    rng = random.Random(seed)
    made: dict[str, Order] = {}
    while len(made) < count:
        order = _order(words, rng, FORMS[len(made) % len(FORMS)])
        made.setdefault(order.sentence, order)
    return list(made.values())


def _order(words: Words, rng: random.Random, form: str) -> Order:
    day = _choice(rng, tuple(DAYS))
    slots = {
        "count": str(_choice(rng, words.counts)),
        "item": f"{_choice(rng, words.kinds)} {_choice(rng, words.things)}",
        "name": f"{_choice(rng, words.first_names)} {_choice(rng, words.last_names)}",
        "town": _choice(rng, words.towns),
    }
    record = " | ".join((*slots.values(), DAYS[day]))
    return Order(form.format(**slots, day=day), record)


def _choice(rng: random.Random, options: Sequence[Any]) -> Any:
    """`rng.choice`, spelled with `random()`, whose sequence Python promises to keep."""
    return options[int(rng.random() * len(options))]
