"""Speeds of earlier runs: kept, bounded, replaced, and looked up by what they tell about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab.facts import Facts, Speed
from ftlab.planning import measured

ONE = Speed("a card", "nf4", "bf16", 8_000_000_000, 4096, 5e14)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path / "cache"))


def test_what_is_remembered_is_read() -> None:
    assert measured.read() == ()
    other = dataclasses.replace(ONE, device="another card")
    measured.remember(ONE)
    measured.remember(other)
    assert measured.read() == (ONE, other)
    faster = dataclasses.replace(ONE, rate=6e14)
    measured.remember(faster)
    assert measured.read() == (other, faster), "one entry for the same work"


def test_the_oldest_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured, "MOST", 3)
    for tokens in range(5):
        measured.remember(dataclasses.replace(ONE, tokens=tokens))
    assert [held.tokens for held in measured.read()] == [2, 3, 4]


@pytest.mark.parametrize("text", ["", "{", "3", '[{"device": "a card"}]', "[1]"])
def test_a_damaged_file_says_nothing_and_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "cache" / measured.FILE
    path.parent.mkdir()
    path.write_text(text)
    assert measured.read() == ()
    measured.remember(ONE)
    assert measured.read() == (ONE,)


def test_entries_of_a_newer_version_are_understood(tmp_path: Path) -> None:
    measured.remember(ONE)
    path = tmp_path / "cache" / measured.FILE
    path.write_text(path.read_text().replace('"device"', '"new": 1, "device"'))
    assert measured.read() == (ONE,)


def test_a_cache_that_cannot_be_written_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("FTLAB_CACHE", str(blocked / "below"))
    measured.remember(ONE)
    assert measured.read() == ()


def test_the_same_model_speaks_first_and_alike_ones_else() -> None:
    smaller = dataclasses.replace(ONE, parameters=3_000_000_000)
    tiny = dataclasses.replace(ONE, parameters=100_000_000)
    speeds = [ONE, smaller, tiny]
    assert measured.matching(speeds, "a card", "nf4", "bf16", ONE.parameters) == [ONE]
    assert measured.matching(speeds, "a card", "nf4", "bf16", 7_000_000_000) == [ONE, smaller]
    for asked in (("other", "nf4", "bf16"), ("a card", "bf16", "bf16"), ("a card", "nf4", "fp16")):
        assert measured.matching(speeds, *asked, ONE.parameters) == []


def test_devices_have_names(make_facts: Callable[..., Facts]) -> None:
    machine = make_facts(gpus=("h100",)).machine
    assert measured.device_name(machine, "cpu") == machine.cpu
    assert measured.device_name(machine, "cuda:0") == machine.gpus[0].name
    assert measured.device_name(machine, "cuda") == machine.gpus[0].name
    assert measured.device_name(machine, "cuda:7") == "cuda:7"
