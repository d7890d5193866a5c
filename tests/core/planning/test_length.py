"""max_length and packing from the lengths of the rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftlab.errors import ConfigError
from ftlab.plan import Plan

Resolve = Callable[..., Plan]


@pytest.mark.parametrize(
    ("longest", "gpus", "expected", "words"),
    [
        (500, (), 512, "the longest row has 500 tokens, rounded up to a multiple of 64"),
        (3, (), 64, "rounded up"),
        (512, (), 512, "rounded up"),
        (3000, (), 2048, "cut at 2,048"),
        (3000, ("h100",), 3008, "rounded up"),
        (9000, ("h100",), 4096, "cut at 4,096"),
        (9000, ("t4",), 2048, "cut at 2,048"),
    ],
)
def test_auto_length(
    resolve: Resolve, longest: int, gpus: tuple[str, ...], expected: int, words: str
) -> None:
    made = resolve(gpus=gpus, data={"longest": longest})
    assert made.config.model.max_length == expected
    assert words in made.decisions["model.max_length"].reason


def test_the_model_limits_it(resolve: Resolve) -> None:
    small = {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 1000, "hidden_size": 64,
        "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "max_position_embeddings": 1000,
    }  # fmt: skip
    made = resolve(model=small, data={"longest": 1500})
    assert made.config.model.max_length == 1000
    assert "the model has 1,000 positions" in made.decisions["model.max_length"].reason
    with pytest.raises(ConfigError, match="1001 tokens are more than the 1000 positions"):
        resolve(["model.max_length=1001"], model=small)
    scaling = "model.rope_scaling={rope_type: linear, factor: 2.0}"
    stretched = resolve(["model.max_length=2000", scaling], model=small)
    assert stretched.config.model.max_length == 2000
    with pytest.raises(ConfigError, match="positions of the model"):
        resolve(["model.max_length=2001", scaling], model=small)


def test_overlong_rows_are_said(resolve: Resolve) -> None:
    data = {"longest": 3000, "over": {"2048": 12}}
    cut = resolve(data=data)
    assert any("12 rows (1.0 %) longer than 2,048 tokens will be cut" in w for w in cut.warnings)
    dropped = resolve(["data.overlong=drop"], data=data)
    assert any("will be dropped" in warning for warning in dropped.warnings)
    assert dropped.rows == 1188


def test_exact_counts_of_the_probe_win(resolve: Resolve) -> None:
    data = {"longest": 3000, "over": {"2048": 12}, "usable": {"2048": (1190, 200_000, 70_000)}}
    made = resolve(data=data)
    assert made.rows == 1190
    assert made.train_tokens == 70_000
    assert any("10 rows left out: no trained token within" in w for w in made.warnings)


def test_packing(resolve: Resolve) -> None:
    packed = resolve()
    assert packed.config.data.packing is True
    assert "several fit beside each other" in packed.decisions["data.packing"].reason
    budget = packed.config.train.micro_batch_size * 512
    assert packed.decided("token_budget") == budget
    even = resolve(data={"tokens": 1200 * 480})
    assert even.config.data.packing is False
    assert even.decided("token_budget") is None
    assert resolve(["data.packing=off"]).config.data.packing is False
    pairs = resolve(["method.kind=dpo"], data={"preference": True, "format": "preference"})
    assert pairs.decided("token_budget") == pairs.config.train.micro_batch_size * 512 * 2
