"""Formats are recognised with the reason, mapped by columns, or refused with what is needed."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab.data.formats import SHAPES, detect
from ftlab.errors import DataError
from ftlab.schema import DataSection

CHAT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
GPT = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


def found(row: dict[str, Any], method: str = "sft", **section: Any) -> Any:
    return detect(list(row), [None, row], DataSection(**section), method)


@pytest.mark.parametrize(
    ("row", "method", "name"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, "sft", "alpaca"),
        ({"instruction": "a", "output": "b", "text": "all"}, "sft", "alpaca"),
        ({"messages": CHAT}, "sft", "messages"),
        ({"prompt": "a", "prompt_id": "x", "messages": CHAT}, "sft", "messages"),
        ({"conversations": GPT, "tools": "[]"}, "sft", "sharegpt"),
        ({"prompt": "a", "completion": "b"}, "sft", "prompt_completion"),
        ({"prompt": CHAT[:1], "completion": CHAT[1:]}, "sft", "prompt_completion"),
        ({"text": "a"}, "sft", "text"),
        ({"text": "a", "label": 3}, "sft", "text"),
        ({"prompt": "a", "completion": "b", "label": True}, "sft", "kto"),
        ({"messages": CHAT, "label": False}, "sft", "kto"),
        ({"conversations": GPT, "label": "true"}, "sft", "kto"),
        ({"messages": CHAT, "label": "positive"}, "sft", "messages"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "dpo", "preference"),
        ({"chosen": CHAT, "rejected": CHAT}, "dpo", "preference"),
        ({"conversations": GPT, "chosen": GPT[1], "rejected": GPT[1]}, "dpo", "preference"),
        ({"instruction": "a", "output": "b", "chosen": "b", "rejected": "c"}, "dpo", "preference"),
        ({"instruction": "a", "output": "b", "chosen": "b", "rejected": "c"}, "sft", "alpaca"),
    ],
)
def test_recognised(row: dict[str, Any], method: str, name: str) -> None:
    assert found(row, method).name == name


def test_the_reason_names_what_is_read_and_what_is_not() -> None:
    fmt = found({"instruction": "a", "input": "", "output": "b", "id": 1, "source": "x"})
    assert fmt.reason == "alpaca: columns instruction, output, input; not used: id, source"
    assert fmt.map == {"instruction": "instruction", "output": "output", "input": "input"}
    assert fmt.view({"instruction": "a", "id": 1})["output"] is None


def test_mapping_by_columns() -> None:
    row = {"question": "a", "answer": "b", "text": "other"}
    fmt = found(row, columns={"prompt": "question", "completion": "answer"})
    assert fmt.name == "prompt_completion"
    assert "mapped by data.columns" in fmt.reason
    assert "question as prompt, answer as completion; not used: text" in fmt.reason
    assert fmt.view(row) == {"prompt": "a", "completion": "b"}


def test_a_mapped_role_must_be_used() -> None:
    row = {"instruction": "a", "output": "b", "body": "c"}
    assert found(row, columns={"text": "body"}).name == "text"
    pair = {"question": "q", "good": "a", "bad": "b"}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad"}
    assert found(pair, "dpo", columns=columns).name == "preference"
    with pytest.raises(DataError, match="a format must use every mapped role"):
        found(pair, columns={"prompt": "question", "text": "good"})


def test_a_given_format_decides() -> None:
    row = {"instruction": "a", "output": "b", "text": "c"}
    fmt = found(row, format="text")
    assert (fmt.name, fmt.reason) == (
        "text",
        "data.format says text: columns text; not used: instruction, output",
    )
    assert found({"prompt": "a", "completion": "b", "label": 1}, format="kto").name == "kto"
    with pytest.raises(DataError, match=r"(?s)of data.format messages.*messages needs messages"):
        found(row, format="messages")


def test_undetectable_lists_columns_formats_and_an_example() -> None:
    with pytest.raises(DataError) as caught:
        found({"question": "a", "answer": "b"})
    text = str(caught.value)
    assert "the columns question, answer have no shape" in text
    for line in (
        "alpaca needs instruction, output",
        "messages needs messages",
        "prompt_completion needs prompt, completion",
        "text needs text",
        "kto needs prompt, completion, label",
    ):
        assert line in text
    assert "columns: {prompt: question, completion: answer}" in text
    assert "preference needs" not in text
    with pytest.raises(DataError, match=r"columns: \{text: body\}"):
        found({"body": "a"})
    with pytest.raises(DataError) as caught:
        found({"question": "a", "better": "b", "worse": "c"}, "dpo")
    assert "columns: {prompt: question, chosen: better, rejected: worse}" in str(caught.value)
    assert "preference needs prompt, chosen, rejected" in str(caught.value)


def test_lists_that_are_text_are_explained() -> None:
    with pytest.raises(DataError, match="column messages holds text, but messages are lists"):
        found({"messages": "[{}]"})


def test_every_problem_of_columns_at_once_with_the_nearest_name() -> None:
    with pytest.raises(DataError) as caught:
        found({"question": "a"}, columns={"promt": "question", "completion": "questoin"})
    assert [problem.path for problem in caught.value.problems] == [
        "data.columns.promt",
        "data.columns.completion",
    ]
    assert "did you mean prompt" in str(caught.value)
    assert "no column 'questoin'; the columns are question (did you mean question)" in str(
        caught.value
    )


def test_methods_refuse_rows_of_the_other_kind() -> None:
    with pytest.raises(DataError, match=r"sft learns from one answer.*use method.kind dpo"):
        found({"prompt": "a", "chosen": "b", "rejected": "c"})
    with pytest.raises(DataError, match=r"dpo learns from pairs.*alpaca.*use method.kind sft"):
        found({"instruction": "a", "output": "b"}, "dpo")
    with pytest.raises(DataError, match=r"KTO rows have one answer.*labelled true"):
        found({"prompt": "a", "completion": "b", "label": True}, "dpo")


def test_the_table_of_shapes_covers_every_format_of_the_schema() -> None:
    import typing

    names = typing.get_args(typing.get_type_hints(DataSection)["format"])
    assert {shape.format for shape in SHAPES} == set(names) - {"auto"}
