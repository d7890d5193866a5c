"""Answers and nothing else are trained, in the template styles of every big family."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ftlab.data.chat import MARKS, Renderer, Template, render_sample, resolve
from ftlab.data.masking import Masker, token_marks
from ftlab.data.messages import Message, Skipped

Tiny = Callable[..., Any]


def say(role: str, content: str, **more: Any) -> Message:
    return {"role": role, "content": content, **more}


CHAT = [
    say("system", "Be brief."),
    say("user", "Hello there?"),
    say("assistant", "I am fine."),
    say("user", "capital of France"),
    say("assistant", " Paris is. "),
]
THOUGHTS = [
    say("user", "a"),
    say("assistant", "<think>\nlong\n</think>\n\nYes"),
    say("user", "b"),
    say("assistant", "<think>\nhm\n</think>\n\nNo"),
]
CALL = {"type": "function", "function": {"name": "w", "arguments": {"c": "x"}}}
CALLS = [
    say("user", "2 + 2?"),
    say("assistant", "", tool_calls=[CALL]),
    say("tool", "4"),
    say("assistant", "It is 4."),
]


def masked(tokenizer: Any, messages: list[Message], setting: str = "auto") -> tuple[str, str]:
    """The dialogue with marks around trained characters, and around trained tokens."""
    chat = Renderer(tokenizer, resolve(tokenizer, setting))
    turns, tools = chat.fit(messages, None)
    text, spans = Masker(chat).spans(turns, tools)
    shown, last = "", 0
    for begin, end in spans:
        shown += text[last:begin] + MARKS[0] + text[begin:end] + MARKS[1]
        last = end
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    marks = token_marks(np.array(encoded["offset_mapping"]), spans)
    return shown + text[last:], render_sample(tokenizer, encoded["input_ids"], marks.tolist())


EXPECTED = {
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nHello there?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦I am fine.<|eot_id|>⟧"
        "<|start_header_id|>user<|end_header_id|>\n\ncapital of France<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Paris is.<|eot_id|>⟧"
    ),
    "qwen3": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello there?<|im_end|>\n"
        "<|im_start|>assistant\n⟦I am fine.<|im_end|>⟧\n"
        "<|im_start|>user\ncapital of France<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\n\n</think>\n\n Paris is. <|im_end|>⟧\n"
    ),
    "gemma": (
        "<bos><start_of_turn>user\nBe brief.\n\nHello there?<end_of_turn>\n"
        "<start_of_turn>model\n⟦I am fine.<end_of_turn>⟧\n"
        "<start_of_turn>user\ncapital of France<end_of_turn>\n"
        "<start_of_turn>model\n⟦Paris is.<end_of_turn>⟧\n"
    ),
    "mistral": (
        "<s>[INST] Hello there? [/INST]⟦ I am fine.</s>⟧"
        "[INST] Be brief.\n\ncapital of France [/INST]⟦ Paris is.</s>⟧"
    ),
    "phi3": (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHello there?<|end|>\n"
        "<|assistant|>\n⟦I am fine.<|end|>⟧\n<|user|>\ncapital of France<|end|>\n"
        "<|assistant|>\n⟦ Paris is. <|end|>⟧\n<|endoftext|>"
    ),
    "generation": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello there?<|im_end|>\n"
        "<|im_start|>assistant\n⟦I am fine.<|im_end|>⟧\n"
        "<|im_start|>user\ncapital of France<|im_end|>\n"
        "<|im_start|>assistant\n⟦ Paris is. <|im_end|>⟧\n"
    ),
    # No header is asked for when answers are generated, so the model has to write it.
    "endless": (
        "system: Be brief.\nuser: Hello there?\n⟦assistant: I am fine.⟧\n"
        "user: capital of France\n⟦assistant:  Paris is. ⟧\n"
    ),
}


@pytest.mark.parametrize("style", EXPECTED)
def test_answers_with_their_end_of_turn_are_trained(tiny: Tiny, style: str) -> None:
    text, tokens = masked(tiny(style), CHAT)
    assert tokens == EXPECTED[style]
    plain = EXPECTED[style].replace("⟦", "").replace("⟧", "")
    assert text.replace("⟦", "").replace("⟧", "") == plain


def test_thoughts_are_trained_where_the_template_shows_them(tiny: Tiny) -> None:
    assert masked(tiny("qwen3"), THOUGHTS)[1] == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦Yes<|im_end|>⟧\n"
        "<|im_start|>user\nb<|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\nhm\n</think>\n\nNo<|im_end|>⟧\n"
    )
    assert masked(tiny("deepseek"), THOUGHTS)[1] == (
        "<|bos|><|User|>a<|Assistant|>⟦\n\nYes<|eos|>⟧<|User|>b<|Assistant|>⟦\n\nNo<|eos|>⟧"
    )


def test_tool_calls_are_trained_and_results_are_not(tiny: Tiny) -> None:
    assert masked(tiny("qwen3"), CALLS)[1] == (
        "<|im_start|>user\n2 + 2?<|im_end|>\n<|im_start|>assistant\n"
        '⟦\n<tool_call>\n{"name": "w", "arguments": {"c": "x"}}\n</tool_call><|im_end|>⟧\n'
        "<|im_start|>user\n<tool_response>\n4\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n⟦<think>\n\n</think>\n\nIt is 4.<|im_end|>⟧\n"
    )
    assert masked(tiny("llama3"), CALLS)[1].count("⟦") == 2


def test_a_dialogue_may_begin_with_an_answer(tiny: Tiny) -> None:
    turns = [say("assistant", "Yes"), say("user", "No"), say("assistant", "fine")]
    for style in ("llama3", "phi3", "qwen3"):
        text = masked(tiny(style), turns)[1]
        assert "⟦Yes<" in text
        assert text.count("⟦") == 2


def test_answers_that_hold_an_end_of_turn_token_are_trained_whole(tiny: Tiny) -> None:
    turns = [say("user", "a"), say("assistant", "one<|im_end|>\ntwo")]
    assert masked(tiny("generation"), turns)[1].endswith("⟦one<|im_end|>\ntwo<|im_end|>⟧\n")
    assert masked(tiny("qwen3"), turns, "chatml")[1].endswith("⟦one<|im_end|>\ntwo<|im_end|>⟧\n")


def test_a_mark_is_not_taken_from_the_pad_token(tiny: Tiny) -> None:
    tokenizer = copy.deepcopy(tiny("generation"))
    tokenizer.pad_token = "<|im_end|>"
    assert masked(tokenizer, CHAT)[1] == EXPECTED["generation"]


def test_messages_of_weight_zero_are_not_trained(tiny: Tiny) -> None:
    turns = [*CHAT[:2], {**CHAT[2], "weight": 0}, *CHAT[3:]]
    for style in ("llama3", "generation"):
        expected = EXPECTED[style].replace("⟦I am fine.", "I am fine.").replace("⟧", "", 1)
        assert masked(tiny(style), turns)[1] == expected


def test_generation_tags_agree_with_transformers(tiny: Tiny) -> None:
    tokenizer = tiny("generation")
    chat = Renderer(tokenizer, resolve(tokenizer))
    text, spans = Masker(chat).spans(CHAT)
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    theirs = tokenizer.apply_chat_template(
        CHAT, tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    assert encoded["input_ids"] == theirs["input_ids"]
    marks = token_marks(np.array(encoded["offset_mapping"]), spans)
    assert marks.tolist() == theirs["assistant_masks"]


def test_an_end_of_turn_that_generation_tags_leave_out_is_trained(tiny: Tiny) -> None:
    text = tiny("generation").chat_template.replace(
        "{{- m['content'] + '<|im_end|>' }}{% endgeneration %}",
        "{{- m['content'] }}{% endgeneration %}{{- '<|im_end|>' }}",
    )
    assert text != tiny("generation").chat_template
    chat = Renderer(tiny("generation"), Template(text, "test"))
    shown, spans = Masker(chat).spans(CHAT)
    assert [shown[a:b] for a, b in spans] == ["I am fine.<|im_end|>", " Paris is. <|im_end|>"]


def test_an_answer_that_is_not_shown_is_skipped(tiny: Tiny) -> None:
    text = (
        "{% for m in messages %}{% if m.role != 'assistant' or loop.last %}"
        "{{ m.content + eos_token }}{% endif %}{% endfor %}"
    )
    chat = Renderer(tiny("none"), Template(text, "test"))
    with pytest.raises(Skipped, match="not found"):
        Masker(chat).spans(CHAT)


def test_dialogues_that_a_template_takes_only_whole(tiny: Tiny) -> None:
    """It refuses a dialogue cut before its last answer, and tool results without a call."""
    text = tiny("qwen3").chat_template
    strict = (
        "{%- for m in messages %}"
        "{%- if m.role == 'tool' and not messages[loop.index0 - 1].tool_calls %}"
        "{{ raise_exception('no call') }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt and messages[-1].role == 'tool' %}"
        "{{ raise_exception('no answer') }}{%- endif %}"
    )
    chat = Renderer(tiny("qwen3"), Template(strict + text, "test"))
    shown, spans = Masker(chat).spans(CALLS)
    assert [shown[begin:end] for begin, end in spans] == [
        '\n<tool_call>\n{"name": "w", "arguments": {"c": "x"}}\n</tool_call><|im_end|>',
        "It is 4.<|im_end|>",
    ]


def test_no_end_of_turn_token_is_said(tiny: Tiny) -> None:
    chat = Renderer(tiny("endless"), resolve(tiny("endless")))
    Masker(chat)
    assert chat.done == {"it puts no end-of-turn token after an answer"}


@pytest.mark.parametrize("style", ["llama3", "qwen3", "mistral", "phi3", "deepseek", "generation"])
def test_random_dialogues(tiny: Tiny, style: str) -> None:
    """Whatever is said: one range an answer, what was said inside it, nothing else of anybody."""
    random, tokenizer = np.random.default_rng(0), tiny(style)
    chat = Renderer(tokenizer, resolve(tokenizer))
    masker = Masker(chat)
    parts = [
        "Yes",
        "No",
        " ",
        "\n",
        "user",
        "assistant",
        "<|im_end|>",
        "</s>",
        "ü",
        "😀",
        ": ",
        "model",
    ]
    for _ in range(60):
        contents = [
            "x" + "".join(random.choice(parts, random.integers(1, 9))) + "y" for _ in range(6)
        ]
        turns = [say(("user", "assistant")[i % 2], text) for i, text in enumerate(contents)]
        text, spans = masker.spans(turns)
        assert len(spans) == 3
        for (begin, end), said in zip(spans, contents[1::2], strict=True):
            assert said in text[begin:end]
            ending = text[begin:end].rpartition(said)[2].strip()
            assert ending == masker.ends[0]
        rest = "".join(
            text[end:begin]
            for (_, end), (begin, _) in itertools.pairwise([(0, 0), *spans, (len(text), 0)])
        )
        assert all(said in rest for said in contents[::2])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        theirs = tokenizer.apply_chat_template(turns, tokenize=True, return_dict=True)
        assert ids == theirs["input_ids"]


def test_tokens_are_marked_by_their_characters() -> None:
    offsets = np.array([[0, 0], [0, 3], [4, 7], [7, 8], [8, 8]])
    assert token_marks(offsets, [(3, 7)]).tolist() == [0, 0, 1, 0, 0]
    assert token_marks(offsets, [(2, 5)]).tolist() == [0, 1, 1, 0, 0]  # border inside a token
    assert token_marks(offsets, []).tolist() == [0] * 5
    assert token_marks(np.zeros((0, 2), int), [(0, 1)]).tolist() == []


def test_pieces_of_one_character_are_all_marked() -> None:
    offsets = np.array([[0, 1], [1, 2], [1, 2], [1, 2], [2, 3]])
    assert token_marks(offsets, [(1, 2)]).tolist() == [0, 1, 1, 1, 0]


def test_spaces_that_offsets_leave_out_belong_to_the_next_token(tiny: Tiny) -> None:
    trimmed = np.array([[0, 3], [5, 5], [5, 8]])  # "the", two spaces, "fox"
    assert token_marks(trimmed, [(3, 5)]).tolist() == [0, 1, 0]
    assert token_marks(trimmed, [(5, 8)]).tolist() == [0, 0, 1]
