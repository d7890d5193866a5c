"""Prompts and hoped-for answers out of a token store, and what the model answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch.nn import Module

from ftlab.evaluation.generate import generate_ids

if TYPE_CHECKING:
    from ftlab.data.tokens import TokenStore

_PROMPT_OF_TEXT = 32  # tokens of a plain text that serve as its prompt
_LONGEST_ANSWER = 128


@dataclass(frozen=True, slots=True)
class Sample:
    """One generated answer beside the one that was hoped for, without special tokens."""

    prompt: str
    text: str
    reference: str


@dataclass(frozen=True, slots=True)
class Question:
    """Token ids of a prompt and of the answer in the data."""

    prompt: list[int]
    reference: list[int]


def question(store: TokenStore, row: int) -> Question:
    """A row cut where its first answer begins; a preference row's answer is the chosen one.

    Where everything is trained (plain text), the prompt is the beginning of the text.
    """
    ids, marks = next(iter(store.sequences(row)))
    trained = np.flatnonzero(marks)
    start = int(trained[0]) if len(trained) else len(ids)
    if start <= 1:
        start = max(1, min(_PROMPT_OF_TEXT, len(ids) // 2))
    return Question(ids[:start].tolist(), ids[start : start + _run(marks[start:])].tolist())


def answer(model: Module, tokenizer: Any, questions: Sequence[Question]) -> list[Sample]:
    """Greedy answers, all questions together."""
    if not questions:
        return []
    longest = max(len(question.reference) for question in questions)
    limit = max(8, min(_LONGEST_ANSWER, 2 * longest))
    answers = generate_ids(
        model, tokenizer, [q.prompt for q in questions], limit, batch_size=len(questions)
    )

    def text(ids: list[int]) -> str:
        return str(tokenizer.decode(ids, skip_special_tokens=True))

    return [
        Sample(text(question.prompt), text(ids), text(question.reference))
        for question, ids in zip(questions, answers, strict=True)
    ]


def _run(marks: npt.NDArray[Any]) -> int:
    """Length of the first unbroken stretch of marked tokens."""
    unmarked = np.flatnonzero(marks == 0)
    return int(unmarked[0]) if len(unmarked) else len(marks)
