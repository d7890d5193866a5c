"""Batched greedy generation equals one prompt at a time, in the order asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ftlab.evaluation.generate import encode_prompt, end_tokens, generate, generate_ids

PROMPTS = ["w5 w6 w7", "w8", "w9 w10 w11 w12 w13 w14 w15", "w20 w21"]


def greedy_by_hand(model: Any, ids: list[int], count: int) -> list[int]:
    """Without cache, without padding."""
    made: list[int] = []
    with torch.no_grad():
        while len(made) < count:
            made.append(int(model(torch.tensor([ids + made])).logits[0, -1].argmax()))
            if made[-1] == 1:
                return made[:-1]
    return made


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_equals_greedy_by_hand(loaded: tuple[Any, Any], batch_size: int) -> None:
    model, tokenizer = loaded
    prompts = [encode_prompt(tokenizer, prompt) for prompt in PROMPTS]
    answers = generate_ids(model, tokenizer, prompts, 12, batch_size)
    assert answers == [greedy_by_hand(model, ids, 12) for ids in prompts]


def test_texts_come_in_the_order_asked(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    together = generate(model, tokenizer, PROMPTS, 6, batch_size=4)
    alone = [generate(model, tokenizer, [prompt], 6, batch_size=1)[0] for prompt in PROMPTS]
    assert together == alone
    assert all(isinstance(text, str) for text in together)
    assert generate(model, tokenizer, [], 6, batch_size=4) == []


def test_an_answer_ends_before_the_end_token(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    prompts = [encode_prompt(tokenizer, prompt) for prompt in PROMPTS]
    full = generate_ids(model, tokenizer, prompts, 12, 4)
    end = full[1][2]
    model.generation_config.eos_token_id = end
    cut = generate_ids(model, tokenizer, prompts, 12, 4)
    assert cut == [ids[: ids.index(end)] if end in ids else ids for ids in full]
    assert len(cut[1]) <= 2


def test_chats_go_through_the_template(loaded: tuple[Any, Any]) -> None:
    _, tokenizer = loaded
    chat = [{"role": "user", "content": "w5 w6"}]
    assert tokenizer.decode(encode_prompt(tokenizer, chat)) == "user w5 w6 </s> assistant"


def test_modes_are_given_back(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    model.train()
    model.model.norm.eval()
    generate(model, tokenizer, ["w5"], 2)
    assert model.training
    assert not model.model.norm.training


def test_every_end_token_counts(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    model.generation_config.eos_token_id = [7, 9]
    assert end_tokens(model, tokenizer) == {1, 7, 9}


def test_a_tokenizer_without_padding_pads_with_an_end_token(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    expected = generate(model, tokenizer, PROMPTS, 5)
    tokenizer.pad_token = None
    assert generate(model, tokenizer, PROMPTS, 5) == expected
