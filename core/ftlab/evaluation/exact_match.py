"""Exact match: the share of greedy answers that equal the reference after both are reduced."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.nn import Module

from ftlab.evaluation.generate import Prompt, generate

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class Answer:
    """One prompt, what was generated, what was expected, and whether they match."""

    prompt: Prompt
    text: str
    reference: str
    correct: bool


@dataclass(frozen=True, slots=True)
class ExactMatch:
    """The score in [0, 1] and every answer behind it."""

    score: float
    answers: tuple[Answer, ...]


def exact_match(
    model: Module,
    tokenizer: Any,
    rows: Sequence[tuple[Prompt, str]],
    *,
    max_new_tokens: int = 64,
    batch_size: int = 32,
    reduce: Callable[[str], str] = str.strip,
) -> ExactMatch:
    """Answer every prompt of `rows` greedily and compare with its reference.

    Args:
        rows: (prompt, reference) pairs, as `generate` takes prompts.
        reduce: what answer and reference are reduced to before they are compared; `final_number`
            for GSM8K.
    Raises:
        ValueError: no rows.
    """
    if not rows:
        raise ValueError("exact match needs at least one row")
    texts = generate(model, tokenizer, [prompt for prompt, _ in rows], max_new_tokens, batch_size)
    answers = tuple(
        Answer(prompt, text, reference, reduce(text) == reduce(reference))
        for (prompt, reference), text in zip(rows, texts, strict=True)
    )
    return ExactMatch(sum(answer.correct for answer in answers) / len(answers), answers)


def final_number(text: str) -> str:
    """The number after "####" if there is one, else the last number, without separators.

    GSM8K's convention; "" when the text holds no number.
    """
    numbers = _NUMBER.findall(text.rsplit("####", 1)[-1]) or _NUMBER.findall(text)
    number = numbers[0 if "####" in text else -1].replace(",", "") if numbers else ""
    return number.rstrip("0").rstrip(".") if "." in number else number
