"""Rows become tokens with marks: the template's tokens for chats, BOS and EOS once for texts."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Literal

import numpy as np
import pytest

from ftlab.data.canonical import Chat, ChatPair, Plain, PlainPair
from ftlab.data.chat import render_sample, resolve
from ftlab.data.encode import Encoded, Encoder, prompt_key
from ftlab.data.messages import Skipped
from ftlab.errors import EnvironmentUnfit

Tiny = Callable[..., Any]
ASK = {"role": "user", "content": "Hello"}
SAY = {"role": "assistant", "content": "Yes"}
NO = {"role": "assistant", "content": "No"}


def encoder(
    tokenizer: Any, train_on: Literal["completions", "all"] = "completions", setting: str = "auto"
) -> Encoder:
    return Encoder(tokenizer, resolve(tokenizer, setting), train_on)


def one(tokenizer: Any, row: Any, **options: Any) -> Encoded:
    (found,) = encoder(tokenizer, **options).encode([row])
    assert isinstance(found, Encoded), found
    return found


def shown(tokenizer: Any, row: Any, **options: Any) -> str:
    found = one(tokenizer, row, **options)
    return render_sample(tokenizer, found.tokens.tolist(), found.marks.tolist())


def test_texts_get_bos_and_eos_once(tiny: Tiny) -> None:
    tokenizer = tiny("none")
    assert shown(tokenizer, Plain("", "Yes and No")) == "<s>⟦Yes and No</s>⟧"
    assert shown(tokenizer, Plain("2 + 2 =", " 4")) == "<s>2 + 2 =⟦ 4</s>⟧"
    assert shown(tokenizer, Plain("<s>2 + 2 =", " 4")) == "<s>2 + 2 =⟦ 4</s>⟧"
    assert shown(tokenizer, Plain("", "Yes</s>")) == "<s>⟦Yes</s>⟧"
    assert shown(tiny("none", add_bos=False), Plain("2 =", " 4")) == "2 =⟦ 4</s>⟧"


def test_a_token_across_the_border_is_trained(tiny: Tiny) -> None:
    """The answer's first character is in it, so without it the answer is not learned whole."""
    assert shown(tiny("none"), Plain("2 + 2 = ", "4")) == "<s>2 + 2 =⟦ 4</s>⟧"


def test_words_that_carry_their_space_are_trained(tiny: Tiny) -> None:
    for style in ("mistral", "phi3", "llama3"):
        text = shown(tiny(style), Plain("the answer", " is Yes"))
        assert text.endswith(f"the answer⟦ is Yes{tiny(style).eos_token}⟧")


def test_chats_are_the_templates_tokens(tiny: Tiny) -> None:
    for style in ("llama3", "qwen3", "gemma", "mistral", "phi3", "generation"):
        tokenizer = tiny(style)
        found = one(tokenizer, Chat([ASK, SAY, ASK, NO]))
        theirs = tokenizer.apply_chat_template([ASK, SAY, ASK, NO], tokenize=True, return_dict=True)
        assert found.tokens.tolist() == theirs["input_ids"]
        assert found.lengths == (len(found.tokens),)
        bos = tokenizer.bos_token_id
        assert bos is None or (found.tokens == bos).sum() <= 1


def test_only_the_completion_of_a_prompted_chat_is_trained(tiny: Tiny) -> None:
    chat = Chat([ASK, SAY, ASK, NO], answer=3)
    assert shown(tiny("generation"), chat).count("⟦") == 1
    assert "⟦No<|im_end|>⟧" in shown(tiny("generation"), chat)
    system = {"role": "system", "content": "Be brief."}
    merged = Chat([system, ASK, SAY, ASK, NO], answer=4)
    assert shown(tiny("gemma"), merged).count("⟦") == 1


def test_all_trains_every_token(tiny: Tiny) -> None:
    assert one(tiny("llama3"), Chat([ASK, SAY]), train_on="all").marks.all()
    assert one(tiny("llama3"), Plain("a", "b"), train_on="all").marks.all()


@pytest.mark.parametrize("style", ["llama3", "qwen3", "mistral", "phi3"])
def test_pairs_add_up_to_the_templates_tokens(tiny: Tiny, style: str) -> None:
    tokenizer = tiny(style)
    found = one(tokenizer, ChatPair([ASK, SAY, ASK], [SAY], [NO]))
    prompt, chosen, rejected = np.split(found.tokens, np.cumsum(found.lengths)[:-1])
    for side, answer in ((chosen, SAY), (rejected, NO)):
        theirs = tokenizer.apply_chat_template(
            [ASK, SAY, ASK, answer], tokenize=True, return_dict=True
        )
        assert [*prompt, *side] == theirs["input_ids"]
    assert not found.marks[: len(prompt)].any()
    text = tokenizer.apply_chat_template(
        [ASK, SAY, ASK], tokenize=False, add_generation_prompt=True
    )
    begin = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert prompt.tolist()[: len(begin)] == begin[: len(prompt)]


def test_pairs_of_texts(tiny: Tiny) -> None:
    tokenizer = tiny("none")
    found = one(tokenizer, PlainPair("2 + 2 = ", "4", "10"))
    prompt, chosen, rejected = np.split(found.tokens, np.cumsum(found.lengths)[:-1])
    assert tokenizer.decode([*prompt, *chosen]) == "<s>2 + 2 = 4</s>"
    assert tokenizer.decode([*prompt, *rejected]) == "<s>2 + 2 = 10</s>"
    assert found.marks.sum() == len(chosen) + len(rejected)


def test_many_rows_keep_their_order_and_reasons(tiny: Tiny) -> None:
    rows = [
        Plain("", "Yes"),
        Skipped("because"),
        Chat([ASK, SAY]),
        Chat([ASK, ASK, SAY]),
        Plain("", "bad \ud800"),
        PlainPair("a", "b", "c"),
        Plain("", "No"),
    ]
    found = encoder(tiny("gemma")).encode(rows)
    assert [isinstance(row, Encoded) for row in found] == [1, 0, 1, 0, 0, 1, 1]
    assert str(found[1]) == "because"
    assert "Roles must alternate" in str(found[3])
    assert str(found[4]) == "text is not valid Unicode"
    alone = encoder(tiny("gemma")).encode(rows[2:3])[0]
    assert isinstance(alone, Encoded)
    assert alone.tokens.tolist() == found[2].tokens.tolist()  # type: ignore[union-attr]


def test_what_turns_out_equal_or_untrained_is_skipped(tiny: Tiny) -> None:
    spaced = {"role": "assistant", "content": " Yes "}
    (same,) = encoder(tiny("llama3")).encode([ChatPair([ASK], [SAY], [spaced])])
    assert str(same) == "chosen equals rejected"
    (silent,) = encoder(tiny("llama3")).encode([Chat([ASK, {**SAY, "weight": 0}])])
    assert str(silent) == "no trained token"


def test_keys_are_of_the_prompt_and_do_not_depend_on_the_tokenizer() -> None:
    assert prompt_key(Plain("a", "b")) == prompt_key(Plain("a", "c"))
    assert prompt_key(Plain("a", "b")) != prompt_key(Plain("b", "b"))
    assert prompt_key(Plain("", "b")) != prompt_key(Plain("", "c"))
    assert prompt_key(Chat([ASK, SAY])) == prompt_key(Chat([ASK, NO, ASK, NO]))
    assert prompt_key(Chat([ASK, SAY, ASK, NO], 3)) != prompt_key(Chat([ASK, SAY]))
    assert prompt_key(Chat([SAY, ASK])) != prompt_key(Chat([NO, ASK]))
    assert prompt_key(ChatPair([ASK], [SAY], [NO])) == prompt_key(ChatPair([ASK], [NO], [SAY]))
    assert prompt_key(PlainPair("a", "b", "c")) == prompt_key(Plain("a", "d"))
    assert prompt_key(Plain("a", "b")) == 3257987897793678764


def test_the_template_is_described_only_where_it_is_used(tiny: Tiny) -> None:
    made = encoder(tiny("gemma"))
    made.encode([Plain("", "Yes")])
    assert made.describe_template() == "none: texts are trained as they are"
    made.encode([Chat([{"role": "system", "content": "S"}, ASK, SAY])])
    assert made.describe_template() == (
        "the tokenizer's own; it has no system role, so system messages begin the user's next"
    )


def test_a_tokenizer_without_offsets_is_refused() -> None:
    slow = SimpleNamespace(is_fast=False, name_or_path="slow")
    with pytest.raises(EnvironmentUnfit, match="the tokenizer slow has no fast form"):
        Encoder(slow, resolve(SimpleNamespace(chat_template="x")))
