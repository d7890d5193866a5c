"""Data that the method cannot learn from, and modules that the model does not have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftlab.errors import ConfigError
from ftlab.plan import Plan

Resolve = Callable[..., Plan]
EVAL = ["data.eval_fraction=0.05"]
QWEN = {
    "architectures": ["Qwen2ForCausalLM"], "vocab_size": 1000, "hidden_size": 64,
    "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "tie_word_embeddings": False,
}  # fmt: skip


@pytest.mark.parametrize(
    ("overrides", "data", "path", "words"),
    [
        (["method.kind=dpo"], {}, "method.kind", "dpo needs rows with prompt, chosen"),
        ([], {"preference": True, "format": "preference"}, "method.kind", "learn from pairs"),
        ([], {"rows": 0, "skipped": {"empty answer": 5}}, "data.source", "5 empty answer"),
        ([], {"trained_tokens": 0}, "data.train_on", "no token of 1,200 rows would carry loss"),
        (
            ["data.overlong=drop", "model.max_length=64"],
            {"over": {"64": 1200}}, "model.max_length", "short enough to be kept",
        ),
        (
            ["model.max_length=64"], {"usable": {"64": (0, 0, 0)}},
            "model.max_length", "no row of 1,200 rows has a trained token within 64",
        ),
    ],
)  # fmt: skip
def test_data_that_cannot_be_learned(
    resolve: Resolve, overrides: list[str], data: dict[str, Any], path: str, words: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(overrides, data=data)
    assert path in [problem.path for problem in caught.value.problems]
    assert words in str(caught.value)


def test_evaluation_data(resolve: Resolve) -> None:
    with pytest.raises(ConfigError, match="has no row with a token"):
        resolve(EVAL, evaluation={"trained_tokens": 0})
    with pytest.raises(ConfigError, match="training rows are alpaca, evaluation rows preference"):
        resolve(EVAL, evaluation={"preference": True, "format": "preference"})
    same = resolve(EVAL, evaluation={}, data={"sha256": "e" * 64})
    assert "evaluation and training data are the same rows" in same.warnings


def test_rows_left_out_and_repeated_are_said(resolve: Resolve) -> None:
    text = "\n".join(resolve(data={"skipped": {"empty answer": 1}, "duplicates": 24}).warnings)
    assert "1 row left out: empty answer" in text
    assert "24 rows (2.0 %) repeat another one" in text


def test_what_was_recognised_is_decided(resolve: Resolve) -> None:
    made = resolve()
    assert made.config.data.format == "alpaca"
    assert made.decisions["data.format"].reason == "columns instruction and output"
    assert made.decisions["data.chat_template"].reason == "the tokenizer's own"
    text = resolve(data={"format": "text"})
    assert text.config.data.train_on == "all"
    assert made.config.data.chat_template == "auto"
    with pytest.raises(ConfigError, match="the rows are plain text"):
        resolve(["data.chat_template=chatml"], data={"format": "text"})


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("adapter.target_modules=[q_prj]", "no module 'q_prj' (did you mean q_proj?)"),
        ("adapter.target_modules=[zzz]", "known are q_proj, k_proj"),
        ("adapter.modules_to_save=[lm_hed]", "did you mean lm_head?"),
        ("adapter.bias=all", "has no bias vectors"),
        ("adapter.target_modules=[lm_head]", "shares its weight with embed_tokens"),
    ],
)
def test_modules_that_are_not_there(resolve: Resolve, override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve([override])
    assert words in str(caught.value)


def test_modules_that_are_there(resolve: Resolve) -> None:
    made = resolve(["adapter.target_modules=[q_proj, model.layers.0.self_attn.v_proj]"])
    assert made.total > 0
    bigger = resolve(["adapter.modules_to_save=[embed_tokens]"])
    assert bigger.memory["adapters"] > resolve().memory["adapters"]
    assert resolve(["adapter.bias=all", "adapter.target_modules=[lm_head]"], model=QWEN).total > 0


def test_notes_of_the_model_become_warnings(
    resolve: Resolve, make_facts: Callable[..., Any]
) -> None:
    spec = {**make_facts().model.spec, "notes": ["its attention dropout is not applied"]}
    assert "its attention dropout is not applied" in resolve(spec=spec).warnings
