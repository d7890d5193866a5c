"""Dialogues as data sets write them become {role, content} messages."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab.data.messages import (
    Skipped,
    WrongType,
    hh_messages,
    is_dialogue,
    is_hh,
    messages,
    without_nulls,
)


@pytest.mark.parametrize(
    ("given", "role"),
    [
        ("human", "user"),
        ("user", "user"),
        ("gpt", "assistant"),
        ("assistant", "assistant"),
        ("model", "assistant"),
        ("system", "system"),
        ("developer", "system"),
        ("observation", "tool"),
        ("tool", "tool"),
        ("Human", "user"),
    ],
)
def test_roles_of_sharegpt_and_openai(given: str, role: str) -> None:
    assert messages([{"from": given, "value": "x"}], "c") == [{"role": role, "content": "x"}]
    assert messages([{"role": given, "content": "x"}], "c") == [{"role": role, "content": "x"}]


def test_other_keys_stay_and_nulls_go() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [1], "name": None, "weight": 0}
    assert messages([turn], "c") == [
        {"role": "assistant", "content": "", "tool_calls": [1], "weight": 0}
    ]


def test_parts_of_text_are_joined_and_pictures_are_skipped() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert messages([{"role": "user", "content": parts}], "c")[0]["content"] == "ab"
    with pytest.raises(Skipped, match="more than text"):
        messages([{"role": "user", "content": [{"type": "image"}]}], "c")


def test_a_function_call_becomes_a_tool_call() -> None:
    call = '{"name": "f", "arguments": {"a": 1}}'
    assert messages([{"from": "function_call", "value": call}], "c") == [
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
        }
    ]
    two = messages([{"from": "function_call", "value": f"[{call}, {call}]"}], "c")
    assert len(two[0]["tool_calls"]) == 2


@pytest.mark.parametrize("value", ["not json", '{"arguments": {}}', "[1]"])
def test_broken_function_calls_are_skipped(value: str) -> None:
    with pytest.raises(Skipped, match="function call"):
        messages([{"from": "function_call", "value": value}], "c")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("text", "'turns' holds text"),
        (5, r"'turns' holds a number \(5\)"),
        (["text"], "a message that is text"),
        ([{"role": "narrator", "content": "x"}], "role 'narrator'; known are user"),
        ([{"content": "x"}], "role None"),
        ([{"role": "user", "content": 5}], r"content that is a number \(5\)"),
        ([{"role": "user", "content": ["x"]}], "content that is a list"),
    ],
)
def test_wrong_types_name_the_column(value: Any, message: str) -> None:
    with pytest.raises(WrongType, match=message):
        messages(value, "turns")


def test_absent_dialogues_are_skipped() -> None:
    for value in (None, []):
        with pytest.raises(Skipped, match="turns"):
            messages(value, "turns")
    assert messages({"role": "user", "content": "x"}, "turns") == [{"role": "user", "content": "x"}]


def test_hh_dialogues() -> None:
    text = "\n\nHuman: Hi\n\nthere\n\nAssistant: Yes?\n\nHuman: Bye\n\nAssistant:"
    assert is_hh(text)
    assert hh_messages(text) == [
        {"role": "user", "content": "Hi\n\nthere"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Bye"},
        {"role": "assistant", "content": ""},
    ]
    assert not is_hh("Human: Hi")


def test_whole_dialogues_begin_with_a_person() -> None:
    assert is_dialogue([{"from": "human", "value": "x"}])
    assert is_dialogue([{"role": "system", "content": "x"}])
    assert not is_dialogue([{"role": "assistant", "content": "x"}])
    assert not is_dialogue([])
    assert not is_dialogue(["x"])


def test_nulls_go_at_any_depth() -> None:
    assert without_nulls({"a": None, "b": [{"c": None, "d": 0}], "e": ""}) == {
        "b": [{"d": 0}],
        "e": "",
    }
