"""Greedy answers, many at a time: Hugging Face's `generate`, left-padded, with its cache."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module

Prompt = str | Sequence[Mapping[str, Any]]


def generate(
    model: Module,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    max_new_tokens: int = 128,
    batch_size: int = 16,
) -> list[str]:
    """The greedy answer to each prompt, in the order given, without special tokens.

    Args:
        model: a Hugging Face causal LM or the PEFT module around one.
        prompts: chats (lists of {role, content}), which are asked through the chat template, or
            plain texts, which are continued.
        max_new_tokens: longest answer; it ends earlier at the end-of-sequence token.
        batch_size: prompts that are answered together; they are grouped by length.
    """
    encoded = [encode_prompt(tokenizer, prompt) for prompt in prompts]
    answers = generate_ids(model, tokenizer, encoded, max_new_tokens, batch_size)
    return [tokenizer.decode(ids, skip_special_tokens=True) for ids in answers]


def encode_prompt(tokenizer: Any, prompt: Prompt) -> list[int]:
    """Token ids of a prompt up to where the answer begins."""
    if isinstance(prompt, str):
        return list(tokenizer(prompt)["input_ids"])
    text = tokenizer.apply_chat_template(list(prompt), tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def generate_ids(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
) -> list[list[int]]:
    """Like `generate`, from and to token ids; an answer ends before its end-of-sequence token."""
    ends = end_tokens(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else min(ends, default=0)
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))  # longest first
    answers: list[list[int]] = [[] for _ in prompts]
    settings = {
        "max_new_tokens": max_new_tokens,
        "do_sample": False,
        "num_beams": 1,
        "use_cache": True,
        "pad_token_id": pad,
        "eos_token_id": sorted(ends) or None,
        # Sampling settings of the model's own file would only cause a warning about being unused.
        "temperature": None,
        "top_p": None,
        "top_k": None,
    }
    with _answering(model), torch.no_grad():
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids, mask = _left_padded([prompts[i] for i in chosen], pad, _device(model))
            output = model.generate(input_ids=ids, attention_mask=mask, **settings)
            for i, row in zip(chosen, output[:, ids.shape[1] :].tolist(), strict=True):
                answers[i] = _until_end(row, ends)
    return answers


def end_tokens(model: Module, tokenizer: Any) -> set[int]:
    """Every token that ends an answer, by tokenizer and model."""
    generation = getattr(model, "generation_config", None)
    of_model = getattr(generation, "eos_token_id", None)
    several = of_model if isinstance(of_model, (list, tuple)) else [of_model]
    return {int(i) for i in (*several, tokenizer.eos_token_id) if i is not None}


def _until_end(ids: Sequence[int], ends: set[int]) -> list[int]:
    length = next((n for n, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[:length])


def _left_padded(
    prompts: Sequence[Sequence[int]], pad: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Token ids and mask, int64 [batch, longest], every prompt ending in the last column."""
    longest = max(len(prompt) for prompt in prompts)
    ids = [[pad] * (longest - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def _device(model: Module) -> torch.device:
    return next(model.parameters()).device


@contextlib.contextmanager
def _answering(model: Module) -> Iterator[None]:
    """Evaluation mode for the block; afterwards every module is as it was."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
