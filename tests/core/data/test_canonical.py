"""Rows of every format become texts, chats and pairs; useless ones are skipped with a reason."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab.data.canonical import Chat, ChatPair, Plain, PlainPair, converter
from ftlab.data.formats import detect
from ftlab.data.messages import Skipped, WrongType
from ftlab.schema import DataSection

ASK = {"role": "user", "content": "a"}
SAY = {"role": "assistant", "content": "b"}
OTHER = {"role": "assistant", "content": "c"}
GPT = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


def convert(row: Any, method: str = "sft", *, like: Any = None, chat: bool = False) -> Any:
    """The canonical form of `row` in the format of `like` (default: of itself)."""
    example = like or row
    fmt = detect(list(example), [example], DataSection(), method)
    return converter(fmt, as_chat=chat)(row)


def test_alpaca() -> None:
    assert convert({"instruction": "a", "input": "", "output": "b"}) == Chat([ASK, SAY])
    with_input = convert({"instruction": "Add", "input": "1 2", "output": "b", "system": "S"})
    assert with_input.messages[0] == {"role": "system", "content": "S"}
    assert with_input.messages[1]["content"] == "Add\n\n1 2"


def test_messages_sharegpt_and_tools() -> None:
    tools = '[{"name": "f", "description": "d"}]'
    assert convert({"messages": [ASK, SAY]}) == Chat([ASK, SAY])
    assert convert({"conversations": GPT}) == Chat([ASK, SAY])
    function = {"type": "function", "function": {"name": "f", "description": "d"}}
    assert convert({"conversations": GPT, "tools": tools}).tools == [function]
    assert convert({"messages": [ASK, SAY], "tools": [function]}).tools == [function]
    assert convert({"messages": [ASK, SAY], "tools": ""}).tools is None


def test_prompt_and_completion() -> None:
    assert convert({"prompt": "a", "completion": "b"}) == Plain("a", "b")
    assert convert({"prompt": "a", "completion": "b"}, chat=True) == Chat([ASK, SAY], 1)
    assert convert({"prompt": [ASK], "completion": [SAY]}) == Chat([ASK, SAY], 1)
    assert convert({"prompt": "a", "completion": "b", "system": "S"}).answer == 2


def test_text() -> None:
    assert convert({"text": " a "}) == Plain("", " a ")


def test_kto_trains_on_what_is_labelled_true() -> None:
    row = {"prompt": "a", "completion": "b", "label": True}
    assert convert(row) == Plain("a", "b")
    assert convert({"messages": [ASK, SAY], "label": True}) == Chat([ASK, SAY])
    for label in (False, "false"):
        with pytest.raises(Skipped, match="labelled false"):
            convert({**row, "label": label})
    with pytest.raises(Skipped, match="label is null"):
        convert({**row, "label": None}, like=row)
    with pytest.raises(WrongType, match="'label' holds 7"):
        convert({**row, "label": 7}, like=row)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": [ASK], "chosen": [SAY], "rejected": [OTHER]},
        {"prompt": "a", "chosen": [SAY], "rejected": [OTHER]},
        {"prompt": "ignored", "chosen": [ASK, SAY], "rejected": [ASK, OTHER]},
        {"chosen": [ASK, SAY], "rejected": [ASK, OTHER]},
        {"conversations": GPT[:1], "chosen": SAY, "rejected": OTHER},
        {"messages": [ASK], "chosen": "b", "rejected": "c"},
        {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"},
        {
            "chosen": "\n\nHuman: a\n\nAssistant: b",
            "rejected": "\n\nHuman: a\n\nAssistant: c",
        },
    ],
)
def test_preference_in_every_shape(row: dict[str, Any]) -> None:
    assert convert(row, "dpo") == ChatPair([ASK], [SAY], [OTHER])


def test_preference_texts_stay_texts_unless_a_template_is_asked_for() -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    assert convert(row, "dpo") == PlainPair("a", "b", "c")
    assert convert(row, "dpo", chat=True) == ChatPair([ASK], [SAY], [OTHER])


@pytest.mark.parametrize(
    ("row", "method", "reason"),
    [
        ({"instruction": "a", "output": " "}, "sft", "empty answer"),
        ({"instruction": "", "input": " ", "output": "b"}, "sft", "empty instruction"),
        ({"prompt": "a", "completion": ""}, "sft", "empty answer"),
        ({"text": "\n"}, "sft", "empty text"),
        ({"messages": [ASK]}, "sft", "no assistant message"),
        ({"messages": [ASK, {"role": "assistant", "content": ""}]}, "sft", "empty answer"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "dpo", "chosen equals rejected"),
        ({"prompt": "a", "chosen": "b", "rejected": ""}, "dpo", "empty answer"),
        ({"prompt": [ASK], "chosen": [SAY], "rejected": [SAY]}, "dpo", "chosen equals rejected"),
        (
            {"chosen": [ASK, SAY], "rejected": [{"role": "user", "content": "z"}, OTHER]},
            "dpo",
            "differ before the last answer",
        ),
        (
            {"chosen": [ASK, SAY], "rejected": [ASK, SAY, ASK, OTHER]},
            "dpo",
            "differ before the last answer",
        ),
        (
            {"chosen": "\n\nHuman: a\n\nAssistant:", "rejected": "\n\nHuman: a\n\nAssistant: c"},
            "dpo",
            "empty answer",
        ),
        ({"chosen": [ASK, SAY], "rejected": [ASK, SAY]}, "dpo", "chosen equals rejected"),
    ],
)
def test_rows_that_teach_nothing_are_skipped(row: dict[str, Any], method: str, reason: str) -> None:
    with pytest.raises(Skipped, match=reason):
        convert(row, method)


def test_nulls_are_skipped_with_the_column() -> None:
    like = {"instruction": "a", "input": "", "output": "b"}
    with pytest.raises(Skipped, match="row is null"):
        convert(None, like=like)
    with pytest.raises(Skipped, match="output is null"):
        convert({"instruction": "a", "output": None}, like=like)
    assert convert({"instruction": "a", "input": None, "output": "b"}, like=like) == Chat(
        [ASK, SAY]
    )
    pair = {"prompt": "a", "chosen": "b", "rejected": "c"}
    with pytest.raises(Skipped, match="rejected is null"):
        convert({**pair, "rejected": None}, "dpo", like=pair)


@pytest.mark.parametrize(
    ("row", "like", "message"),
    [
        (
            {"instruction": "a", "output": 5},
            {"instruction": "a", "output": "b"},
            r"column 'output' holds a number \(5\), expected text",
        ),
        ({"text": ["a"]}, {"text": "a"}, "column 'text' holds a list"),
        (
            {"messages": [ASK, SAY], "tools": "{"},
            {"messages": [ASK], "tools": ""},
            "tools is not valid JSON",
        ),
        ({"messages": [ASK, SAY], "tools": 3}, {"messages": [ASK], "tools": ""}, "tools holds"),
    ],
)
def test_wrong_types_name_the_column(row: Any, like: Any, message: str) -> None:
    with pytest.raises(WrongType, match=message):
        convert(row, like=like)


def test_pairs_without_prompt_must_be_dialogues() -> None:
    with pytest.raises(WrongType, match="no prompt"):
        convert({"chosen": "b", "rejected": "c"}, "dpo")
