"""One value against one setting: conversions, ranges, choices, and the words of a refusal."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab import values
from ftlab.schema import settings

SETTINGS = {setting.path: setting for setting in settings()}


def accepted(path: str, value: Any) -> Any:
    result, problem = values.check(SETTINGS[path], value)
    assert problem is None, problem
    return result


def refused(path: str, value: Any) -> str:
    result, problem = values.check(SETTINGS[path], value)
    assert problem is not None
    assert problem.path == path
    assert result == SETTINGS[path].default
    return str(problem)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("optim.learning_rate", 2e-4, 2e-4),
        ("optim.learning_rate", "2e-4", 2e-4),
        ("optim.learning_rate", "auto", "auto"),
        ("optim.weight_decay", 1, 1.0),
        ("train.batch_size", 16, 16),
        ("train.batch_size", 1e3, 1000),
        ("train.batch_size", "1e3", 1000),
        ("train.max_steps", None, None),
        ("memory.checkpointing", True, "on"),
        ("memory.checkpointing", False, "off"),
        ("memory.checkpointing", "off", "off"),
        ("adapter.use_dora", "on", True),
        ("adapter.use_dora", "No", False),
        ("adapter.use_dora", True, True),
        ("data.packing", "yes", True),
        ("data.packing", "auto", "auto"),
        ("adapter.target_modules", "all-linear", "all-linear"),
        ("adapter.target_modules", ["q_proj"], ["q_proj"]),
        ("data.columns", {"prompt": "question"}, {"prompt": "question"}),
        ("model.rope_scaling", None, None),
        (
            "model.rope_scaling",
            {"rope_type": "linear", "factor": 2.0},
            {"rope_type": "linear", "factor": 2.0},
        ),
        ("launch.devices", [], []),
        ("launch.devices", [1], [1]),
        ("launch.devices", 2, 2),
        ("memory.budget", "12GiB", "12GiB"),
        ("memory.budget", "auto", "auto"),
        ("model.revision", "main", "main"),
    ],
)
def test_value_is_accepted_and_normalised(path: str, value: Any, expected: Any) -> None:
    result = accepted(path, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("train.batch_size", True, ["whole number of sequences from 1", "true"]),
        ("train.batch_size", 0, ["from 1", "got 0"]),
        ("train.batch_size", 2.5, ["whole number", "2.5"]),
        ("train.batch_size", "16", ["'16'", "remove the quotes"]),
        ("train.batch_size", "many", ["'many'"]),
        ("train.batch_size", None, ["got nothing", "delete the line"]),
        ("train.epochs", float("nan"), ["finite"]),
        ("train.epochs", float("inf"), ["finite"]),
        ("train.epochs", 0, ["above 0"]),
        ("optim.learning_rate", 1.5, ["auto or a number above 0 to 1", "1.5"]),
        ("optim.learning_rate", "automatic", ["'automatic'", "did you mean auto?"]),
        ("adapter.lora_dropout", 0.99, ["from 0 to 0.95"]),
        ("adapter.r", 5000, ["from 1 to 1024"]),
        ("model.precision", "nf5", ["'nf5'", "did you mean nf4?", "auto, nf4, int8"]),
        ("model.precision", 4, ["auto, nf4", "got 4"]),
        ("model.name", 12, ["expected text", 'put it in quotes: "12"']),
        ("model.name", "  ", ["empty text"]),
        ("model.name", None, ["required, but empty"]),
        ("model.revision", " ", ["empty text", "delete the line"]),
        ("model.trust_remote_code", "true", ["true or false", "remove the quotes"]),
        ("model.trust_remote_code", 1, ["true or false", "got 1"]),
        ("adapter.target_modules", "q_proj", ["write [q_proj]"]),
        ("adapter.target_modules", [1], ["list of names", "got 1 in the list"]),
        ("launch.devices", 0, ["write [0]"]),
        ("launch.devices", [True], ["whole numbers", "true"]),
        ("data.columns", ["a"], ["mapping such as {prompt: question"]),
        ("data.columns", {"prompt": 3}, ["text for 'prompt'", "got 3", "quotes"]),
        ("data.columns", {3: "x"}, ["text as a key", "3"]),
        ("model.rope_scaling", "linear", ["a mapping such as {rope_type: linear"]),
        ("memory.budget", "12 parsecs", ["a size such as 12GiB", "'12 parsecs'"]),
        ("memory.budget", "0GiB", ["'0GiB'"]),
        ("memory.budget", 12, ["a size such as 12GiB", "12"]),
        ("memory.checkpointing", "maybe", ["auto, on or off"]),
        ("method.kind", ["sft"], ["sft or dpo", "['sft']"]),
    ],
)
def test_value_is_refused_in_words(path: str, value: Any, words: list[str]) -> None:
    message = refused(path, value)
    for word in words:
        assert word in message


def test_every_setting_accepts_its_own_default_and_examples() -> None:
    checked = 0
    for setting in SETTINGS.values():
        if not setting.required:
            assert accepted(setting.path, setting.default) == setting.default
        for example in setting.examples:
            assert accepted(setting.path, example) == example
            checked += 1
    assert checked >= 12


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12GiB", 12 * 2**30),
        ("12 gib", 12 * 2**30),
        ("1.5GB", 1_500_000_000),
        ("800MiB", 800 * 2**20),
        ("7B", 7),
        ("2TB", 2 * 10**12),
        ("3kib", 3072),
    ],
)
def test_parse_bytes(text: str, expected: int) -> None:
    assert values.parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "12", "GiB", "-1GiB", "1.GiB", "1 iB", "0GB", "1GiBx", "1e3GB"]
)
def test_parse_bytes_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="size such as"):
        values.parse_bytes(text)


def test_nearest_ignores_case_and_gives_up_when_nothing_is_near() -> None:
    assert values.nearest("Learning_Rat", ["learning_rate", "schedule"]) == "learning_rate"
    assert values.nearest("zzz", ["learning_rate"]) is None


def test_long_values_are_shortened() -> None:
    assert len(values.shown("x" * 500)) == 80
