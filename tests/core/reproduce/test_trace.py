"""Traces: kept whole, refused when damaged, and the first tensor that differs is named."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ftlab.errors import FtlabError
from ftlab.reproduce import trace
from ftlab.reproduce.trace import Entry, Trace, first_difference
from ftlab.run import Run

ENTRIES = (
    Entry("reference", 1, 0, "q k v", (5, 8), "float32", 1.5, "a0"),
    Entry("forward", 1, 3, "gate", (5, 8), "bfloat16", 2.5, "a1"),
    Entry("backward", 1, 3, "gate", (5, 8), "bfloat16", 3.5, "a2"),
    Entry("gradient", 2, -1, "layers.3.mlp.lora_A", (2, 8), "float32", 4.5, "a3"),
    Entry("update", 0, -1, "layers.3.mlp.lora_A", (2, 8), "float32", 5.5, "a4"),
)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = Run(tmp_path / "r")
    made.path.mkdir()
    return made


def changed(number: int, **fields: object) -> Trace:
    """The trace with one entry that is another, and every later hash as well."""
    entries = [*ENTRIES]
    entries[number] = dataclasses.replace(entries[number], **fields)  # type: ignore[arg-type]
    for i in range(number + 1, len(entries)):
        entries[i] = dataclasses.replace(entries[i], hash="later")
    return Trace(7, tuple(entries))


def test_what_is_written_is_read(run: Run) -> None:
    assert trace.read(run, 7) is None
    trace.write(run, Trace(7, ENTRIES))
    assert trace.read(run, 7) == Trace(7, ENTRIES)
    assert [path.name for path in run.path.rglob("*.jsonl")] == ["step-7.jsonl"]


def test_a_step_is_asked_for(run: Run) -> None:
    assert trace.asked(run) == 0
    trace.ask(run, 12)
    assert trace.asked(run) == 12


@pytest.mark.parametrize(("damage", "words"), [
    (lambda text: text[:-40], "is no trace"), (lambda text: "", "is no trace"),
    (lambda text: text.replace('"step": 7', '"step": 8'), "is not whole"),
    (lambda text: text[: text.rstrip().rindex("\n") + 1], "is not whole"),
    (lambda text: text.replace('"norm"', '"other"'), "is no trace"),
])  # fmt: skip
def test_damage_is_told(run: Run, damage, words: str) -> None:  # type: ignore[no-untyped-def]
    trace.write(run, Trace(7, ENTRIES))
    path = trace.path(run, 7)
    path.write_text(damage(path.read_text()))
    with pytest.raises(FtlabError, match=words):
        trace.read(run, 7)


@pytest.mark.parametrize(("number", "words"), [
    (0, "q k v in layer 0, reference pass of micro-batch 1 (norm 1.5 | 1.25)"),
    (1, "gate in layer 3, forward pass of micro-batch 1 (norm 2.5 | 1.25)"),
    (2, "the gradient of gate in layer 3, backward pass of micro-batch 1 (norm 3.5 | 1.25)"),
    (3, "the gradient of layers.3.mlp.lora_A after micro-batch 2 (norm 4.5 | 1.25)"),
    (4, "layers.3.mlp.lora_A after the update (norm 5.5 | 1.25)"),
])  # fmt: skip
def test_the_first_tensor_that_differs_is_named(number: int, words: str) -> None:
    found = first_difference(Trace(7, ENTRIES), changed(number, hash="other", norm=1.25))
    assert found is not None
    assert found.number == number + 1
    assert str(found) == words
    assert found.to_json()["words"] == words


def test_equal_bits_are_no_difference() -> None:
    assert first_difference(Trace(7, ENTRIES), Trace(7, ENTRIES)) is None


def test_steps_that_make_other_tensors() -> None:
    whole = Trace(7, ENTRIES)
    other = first_difference(whole, changed(1, place="up"))
    assert str(other).startswith("the steps make other tensors from number 2 on: gate in layer 3")
    short = first_difference(whole, Trace(7, ENTRIES[:3]))
    assert short is not None
    assert (short.number, short.b) == (4, None)
    wide = first_difference(whole, changed(1, shape=(5, 9)))
    assert str(wide).endswith(": [5, 8] bfloat16 | [5, 9] bfloat16")
