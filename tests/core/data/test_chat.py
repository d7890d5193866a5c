"""Chat templates: where they come from, what they can show, and samples with marks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftlab.data.chat import MARKS, Renderer, Template, adds_bos, render_sample, resolve
from ftlab.data.messages import Skipped
from ftlab.errors import DataError

Tiny = Callable[..., Any]
ASK = {"role": "user", "content": "Hello"}
SAY = {"role": "assistant", "content": "Yes"}
SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"a": 1}}}],
}
RESULT = {"role": "tool", "content": "4"}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def renderer(tokenizer: Any, setting: str = "auto") -> Renderer:
    return Renderer(tokenizer, resolve(tokenizer, setting))


def test_auto_is_the_tokenizers_own_else_chatml(tiny: Tiny) -> None:
    own = tiny("llama3")
    assert resolve(own) == Template(own.chat_template, "the tokenizer's own")
    assert resolve(own, "tokenizer") == resolve(own)
    assert resolve(tiny("none")).origin.startswith(
        "built-in chatml (the tokenizer has no chat template)"
    )
    with pytest.raises(DataError, match="the tokenizer has no chat template"):
        resolve(tiny("none"), "tokenizer")


def test_several_named_templates_of_a_tokenizer() -> None:
    named = SimpleNamespace(chat_template={"tool_use": "T", "default": "D"})
    assert resolve(named).text == "D"


def test_a_file_replaces_it(tiny: Tiny, tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{% for m in messages %}{{ m.role + '=' + m.content + eos_token }}{% endfor %}")
    chat = renderer(tiny("none"), str(path))
    assert chat.render([ASK, SAY]) == "user=Hello</s>assistant=Yes</s>"
    assert chat.template.origin == f"file {path}"
    with pytest.raises(DataError, match=r"got '.*absent.jinja'.*expected auto, tokenizer, chatml"):
        resolve(tiny("none"), str(tmp_path / "absent.jinja"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{% for m in messages %}", "cannot be rendered"),
        ("{{ messages[7].content }}{{ messages[7].content.x }}", "cannot be rendered"),
        ("hello", "does not show assistant messages"),
    ],
)
def test_a_broken_template_is_refused(tiny: Tiny, tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.jinja"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        renderer(tiny("none"), str(path))


def test_chatml_is_the_known_text(tiny: Tiny) -> None:
    chat = renderer(tiny("qwen3"), "chatml")
    expected = (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n"
        "<|im_start|>assistant\nYes<|im_end|>\n"
    )
    assert chat.render([SYSTEM, ASK, SAY]) == expected
    assert chat.render([ASK], prompt=True) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_chatml_shows_tools_and_calls(tiny: Tiny) -> None:
    chat = renderer(tiny("qwen3"), "chatml")
    turns, tools = chat.fit([ASK, CALL, RESULT, SAY], TOOLS)
    text = chat.render(turns, tools)
    assert '<tools>\n{"type": "function", "function": {"name": "f"}}\n</tools>' in text
    assert '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call><|im_end|>' in text
    assert "<|im_start|>tool\n4<|im_end|>" in text
    assert chat.done == set()


def test_chatml_ends_turns_with_eos_where_its_own_token_is_missing(tiny: Tiny) -> None:
    chat = renderer(tiny("none"), "chatml")
    assert chat.render([ASK, SAY]) == (
        "<s><|im_start|>user\nHello</s>\n<|im_start|>assistant\nYes</s>\n"
    )
    assert "turns end with </s>" in chat.template.origin


def test_alpaca_is_the_known_text(tiny: Tiny) -> None:
    chat = renderer(tiny("none", add_bos=False), "alpaca")
    assert chat.render([ASK, SAY]) == (
        "Below is an instruction that describes a task. Write a response that appropriately "
        "completes the request.\n\n### Instruction:\nHello\n\n### Response:\nYes</s>"
    )
    assert chat.render([SYSTEM, ASK], prompt=True) == (
        "Be brief.\n\n### Instruction:\nHello\n\n### Response:\n"
    )


def test_bos_is_put_once(tiny: Tiny) -> None:
    assert adds_bos(tiny("none"))
    assert not adds_bos(tiny("none", add_bos=False))
    assert not adds_bos(tiny("qwen3"))
    assert renderer(tiny("none"), "alpaca").render([ASK, SAY]).count("<s>") == 1
    assert renderer(tiny("llama3")).render([ASK, SAY]).count("<|begin_of_text|>") == 1


def test_a_system_message_goes_to_the_user_where_there_is_no_role_for_it(tiny: Tiny) -> None:
    chat = renderer(tiny("gemma"))
    turns, _ = chat.fit([SYSTEM, ASK, SAY], None)
    assert turns == [{"role": "user", "content": "Be brief.\n\nHello"}, SAY]
    assert "no system role" in " ".join(chat.done)
    assert chat.fit([SYSTEM, SAY], None)[0] == [{"role": "user", "content": "Be brief."}, SAY]
    assert renderer(tiny("llama3")).fit([SYSTEM, ASK, SAY], None)[0] == [SYSTEM, ASK, SAY]


def test_what_a_template_cannot_show_is_written_as_text_and_said(tiny: Tiny) -> None:
    chat = renderer(tiny("gemma"))
    turns, tools = chat.fit([ASK, CALL, RESULT, SAY], TOOLS)
    assert tools is None
    assert turns[1] == {"role": "assistant", "content": '{"name": "f", "arguments": {"a": 1}}'}
    assert turns[2]["role"] == "user"
    assert len(chat.done) == 3
    chat.render(turns)
    capable = renderer(tiny("qwen3"))
    assert capable.fit([ASK, CALL, RESULT, SAY], TOOLS) == ([ASK, CALL, RESULT, SAY], TOOLS)


def test_a_dialogue_that_a_template_refuses_is_skipped(tiny: Tiny) -> None:
    with pytest.raises(Skipped, match=r"the chat template refuses it: Roles must alternate"):
        renderer(tiny("gemma")).render([ASK, ASK, SAY])


def test_a_date_is_fixed_and_said(tiny: Tiny) -> None:
    chat = renderer(tiny("dated"))
    assert chat.render([ASK, SAY]).startswith("Today is 26 July 2024\n")
    assert chat.done == {"the date it prints is fixed to 2024-07-26"}


def test_generation_tags_give_ranges_and_the_same_text(tiny: Tiny) -> None:
    chat = renderer(tiny("generation"))
    text, spans = chat.render_spans([ASK, SAY, ASK, SAY])
    assert text == chat.render([ASK, SAY, ASK, SAY])
    assert [text[begin:end] for begin, end in spans] == ["Yes<|im_end|>"] * 2


@pytest.mark.parametrize("tags", ["{% generation %}|{% endgeneration %}"] + [
    f"{{%{a} generation {b}%}}|{{%{c} endgeneration {d}%}}"
    for a in ("", "-") for b in ("", "-") for c in ("", "-") for d in ("", "-")
])  # fmt: skip
def test_generation_tags_trim_white_space_as_transformers_does(tiny: Tiny, tags: str) -> None:
    begin, _, end = tags.partition("|")
    text = (
        "{% for m in messages %}\n  {% if m.role == 'assistant' %}\n   "
        f"{begin}\n    {{{{ m.content }}}}\n   {end}\n x\n  {{% endif %}}\n{{% endfor %}}"
    )
    chat = Renderer(tiny("qwen3"), Template(text, "test"))
    assert chat.render_spans([ASK, SAY])[0] == chat.render([ASK, SAY])
    assert len(chat.render_spans([ASK, SAY])[1]) == 1


@pytest.mark.parametrize("style", ["none", "mistral", "phi3"])
def test_a_sample_is_the_text_with_marks(tiny: Tiny, style: str) -> None:
    tokenizer = tiny(style)
    ids = tokenizer("the answer is fine. Yes", add_special_tokens=False)["input_ids"]
    marks = [0] * (len(ids) - 3) + [1] * 3
    sample = render_sample(tokenizer, ids, marks)
    assert sample.replace(MARKS[0], "").replace(MARKS[1], "") == "the answer is fine. Yes"
    assert sample.endswith(MARKS[1])


def test_a_sample_leaves_out_the_middle_of_long_parts(tiny: Tiny) -> None:
    tokenizer = tiny("none")
    ids = tokenizer("Yes " * 400, add_special_tokens=False)["input_ids"]
    sample = render_sample(tokenizer, ids, [1] * len(ids), longest=40)
    assert "[... 1560 characters ...]" in sample
    assert len(sample) < 100


def test_a_sample_cut_inside_a_character_still_shows(tiny: Tiny) -> None:
    tokenizer = tiny("none")
    ids = tokenizer("a\N{SNOWMAN}b", add_special_tokens=False)["input_ids"]
    assert len(ids) == 5
    assert render_sample(tokenizer, ids, [0, 0, 1, 1, 1]).count(MARKS[0]) == 1
