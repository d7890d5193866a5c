"""Exact match counts what it should."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab.evaluation.exact_match import exact_match, final_number
from ftlab.evaluation.generate import generate


def test_score_is_the_share_of_equal_answers(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    prompts = ["w5 w6", "w7", "w8 w9", "w10"]
    texts = generate(model, tokenizer, prompts, 4)
    references = [f"  {texts[0]}\n", "something else", texts[2], texts[3]]
    found = exact_match(
        model, tokenizer, list(zip(prompts, references, strict=True)), max_new_tokens=4
    )
    assert found.score == 0.75
    assert [answer.correct for answer in found.answers] == [True, False, True, True]
    assert found.answers[1].text == texts[1]
    assert found.answers[1].prompt == "w7"


def test_reduction_is_applied_to_both(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    rows = [("w5 w6", "anything")]
    assert exact_match(model, tokenizer, rows, reduce=lambda text: "same").score == 1.0


def test_no_rows_is_an_error(loaded: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        exact_match(*loaded, [])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He pays 3 and 4.\n#### 1,234", "1234"),
        ("#### 7 apples, not 8", "7"),
        ("so the answer is 18.", "18"),
        ("it costs $2.50", "2.5"),
        ("-3 degrees", "-3"),
        ("it is 10.00", "10"),
        ("3 eggs ####", "3"),
        ("no number", ""),
        ("100", "100"),
    ],
)
def test_final_number(text: str, number: str) -> None:
    assert final_number(text) == number
