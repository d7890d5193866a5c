"""Strict YAML: the scalars of YAML 1.2, and a place for every error."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab import yamltext
from ftlab.errors import ConfigError


def value(text: str) -> Any:
    return yamltext.read(text, "c.yaml").value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2e-4", 2e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("1_000", 1000),
        ("-3", -3),
        ("0x1F", 31),
        ("0777", 777),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("off", "off"),
        ("yes", "yes"),
        ("null", None),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("1e", "1e"),
        (".inf", float("inf")),
        ("-.inf", float("-inf")),
        ("train[:10]", "train[:10]"),
    ],
)
def test_scalars(text: str, expected: Any) -> None:
    result = value(f"a: {text}")["a"]
    assert result == expected
    assert type(result) is type(expected)


def test_nan() -> None:
    assert str(value("a: .nan")["a"]) == "nan"


def test_nested_values_and_lines() -> None:
    document = yamltext.read("a:\n  b: [1, {c: x}]\nd: |\n  text\n", "c.yaml")
    assert document.value == {"a": {"b": [1, {"c": "x"}]}, "d": "text\n"}
    assert document.lines["a.b"] == 2
    assert document.lines["d"] == 3


def test_empty_text_is_none() -> None:
    assert value("") is None
    assert value("# only a comment\n") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: [1", ["c.yaml", "line 2, column"]),
        ("a: b: c", ["line 1, column 5", "mapping values are not allowed"]),
        ('a: "x', ["line 1", "unexpected end"]),
        ("a:\n\tb: 1", ["line 2", "tab", "spaces only"]),
        ("a: 1\n---\nb: 2", ["line 2", "second document"]),
        ("a: &x 1\nb: *x", ["line 1", "anchors"]),
        ("a: &x [*x]", ["anchors"]),
        ("a: !!python/object:os.system x", ["a: ", "tag", "line 1"]),
        ("a: !mine x", ["tag '!mine'"]),
        ("a: !!binary aGk=", ["tag"]),
        ("? [1]\n: 2", ["key must be text"]),
        ("a: 1\nb: 2\na: 3", ["a: given twice, first on line 1", "line 3"]),
        ("m:\n  x: 1\n  x: 2", ["m.x: given twice, first on line 2", "line 3"]),
        ("a: \x01", ["line 1", "U+0001"]),
        ("[" * 5000, ["c.yaml"]),
        ("[" * 5000 + "]" * 5000, ["nested too deeply"]),
    ],
)
def test_refusals_say_where(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        value(text)
    for word in words:
        assert word in str(caught.value)
    assert len(str(caught.value)) < 300


def test_every_duplicate_is_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        value("a: 1\na: 2\nb: 1\nb: 2\n")
    assert [problem.path for problem in caught.value.problems] == ["a", "b"]


def test_a_huge_file_is_refused() -> None:
    with pytest.raises(ConfigError, match="another file"):
        value("a" * (yamltext.LIMIT_BYTES + 1))
