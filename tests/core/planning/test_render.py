"""The plan as text: complete, within its width, plain unless colour is asked for."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftlab import plan
from ftlab.plan import Plan
from ftlab.planning.render import columns

Resolve = Callable[..., Plan]
EVAL = ["data.eval_fraction=0.05"]


@pytest.fixture
def made(resolve: Resolve) -> Plan:
    return resolve(EVAL, evaluation={}, data={"duplicates": 3})


def test_it_says_everything(made: Plan) -> None:
    text = plan.render(made, 100)
    for words in (
        "some/model at c0ffee", "134.5 M parameters", "LoRA r=16, alpha=32 on q_proj, k_proj",
        "1,200 rows", "33 %", "50 % up to 180", "longest 500 tokens", "the tokenizer's own",
        "supervised fine-tuning on answers", "learning rate 0.0002 (linear, warm-up 3 %)",
        "⟦4<end>⟧", "fp32: this CPU has no native bf16", "activations", "expected",
        "75 of 16 rows each (75 an epoch, 1 epochs)", "every 15 steps", "at most", "60 rows",
        "3 rows (0.2 %) repeat another one",
    ):  # fmt: skip
        assert words in text, words
    for name in made.decisions:
        assert name in text


@pytest.mark.parametrize("width", [10, 40, 60, 80, 120, 200])
def test_no_line_is_wider_than_asked(made: Plan, width: int) -> None:
    text = plan.render(made, width)
    assert max(map(columns, text.splitlines())) <= max(40, width)
    assert text.endswith("\n")
    assert "\x1b" not in text


def test_colour_only_when_asked(made: Plan) -> None:
    text = plan.render(made, 80, colour=True)
    assert "\x1b[1mModel\x1b[0m" in text
    assert "\x1b[32m⟦4<end>⟧\x1b[0m" in text


def test_a_sample_cannot_play_tricks_on_the_terminal(resolve: Resolve) -> None:
    sample = "a\x1b[2Jb\tc\r\n" + "日" * 100 + "\n" + "line\n" * 60
    text = plan.render(resolve(data={"sample": sample}), 60)
    assert "\x1b" not in text
    assert "\r" not in text
    assert "more lines" in text
    assert max(map(columns, text.splitlines())) <= 60
    assert text.count("日") == 100


def test_marks_that_span_lines_stay_coloured(resolve: Resolve) -> None:
    text = plan.render(resolve(data={"sample": "u\n⟦one\ntwo⟧\nend"}), 80, colour=True)
    assert "\x1b[32mtwo" in text
    assert "\x1b[32mend" not in text


def test_other_methods(resolve: Resolve) -> None:
    pairs = {"preference": True, "format": "preference"}
    text = plan.render(resolve(["method.kind=dpo", "method.label_smoothing=0.1"], data=pairs), 120)
    assert "preference optimisation (sigmoid), beta 0.1, reference adapter off" in text
    assert "label smoothing 0.1" in text
    assert "1,200 pairs" in text
    full = ["adapter.kind=none", "optim.warmup=5", "optim.max_grad_norm=0", "data.train_on=all"]
    text = plan.render(resolve([*full, "data.packing=off"]), 120)
    assert "every weight" in text
    assert "warm-up 5 steps" in text
    assert "not clipped" in text
    assert "on every token" in text
    assert "rows at once" in text


def test_adapter_options(resolve: Resolve) -> None:
    overrides = [
        "adapter.use_dora=true", "adapter.use_rslora=true",
        "adapter.modules_to_save=[embed_tokens]", "adapter.target_modules=[q_proj]",
        "model.trust_remote_code=true",
    ]  # fmt: skip
    text = plan.render(resolve(overrides), 200)
    assert "rsLoRA, DoRA on q_proj, and embed_tokens" in text
    assert "remote code" in text
