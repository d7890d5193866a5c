"""Steps, learning rates, and how often to evaluate and save."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ftlab.errors import ConfigError
from ftlab.plan import Plan
from ftlab.planning.steps import epoch_steps

Resolve = Callable[..., Plan]
DPO = ["method.kind=dpo"]
PAIRS = {"preference": True, "format": "preference"}
EVAL = ["data.eval_fraction=0.05"]


@pytest.mark.parametrize(
    ("overrides", "steps", "tokens"),
    [
        ([], 75, 80_000),
        (["train.batch_size=7"], 172, 80_000),
        (["train.epochs=2"], 150, 160_000),
        (["train.epochs=0.5"], 38, 40_533),
        (["train.epochs=0.001"], 1, 1_067),
        (["train.max_steps=10"], 10, 10_667),
        (["train.max_steps=80"], 80, 85_333),
        (["train.batch_size=5000"], 1, 80_000),
    ],
)
def test_steps_and_tokens(resolve: Resolve, overrides: list[str], steps: int, tokens: int) -> None:
    made = resolve(overrides)
    assert made.steps == steps
    assert made.train_tokens == tokens


def test_steps_of_an_epoch_are_counted_as_the_batch_index_does() -> None:
    batches = pytest.importorskip("ftlab.data.batches")
    for epochs in (0.001, 0.1, 1 / 3, 0.5, 1, 1.5, 2, 2.1, 3.3333333):
        for per_epoch in (1, 2, 3, 7, 75, 1000, 12345):
            assert epoch_steps(epochs, per_epoch) == batches.epoch_steps(epochs, per_epoch)


@pytest.mark.parametrize(
    ("overrides", "data", "rate"),
    [
        ([], {}, 2e-4),
        (["adapter.kind=none"], {}, 2e-5),
        (DPO, PAIRS, 5e-6),
        ([*DPO, "adapter.kind=none"], PAIRS, 5e-7),
        (["optim.learning_rate=3e-5"], {}, 3e-5),
    ],
)
def test_learning_rate(
    resolve: Resolve, overrides: list[str], data: dict[str, object], rate: float
) -> None:
    assert resolve(overrides, data=data).config.optim.learning_rate == rate


def test_reference(resolve: Resolve) -> None:
    assert resolve(DPO, data=PAIRS).config.method.reference == "adapter_off"
    full = resolve([*DPO, "adapter.kind=none"], data=PAIRS)
    assert full.config.method.reference == "precomputed"
    assert "method.reference" not in resolve().decisions


def test_rhythm(resolve: Resolve) -> None:
    made = resolve(EVAL, evaluation={})
    assert made.config.train.eval_every == 15
    assert made.config.train.save_every == 10
    assert made.config.train.samples == 3
    none = resolve()
    assert none.config.train.eval_every == 0
    assert none.config.train.samples == 0
    assert resolve(["train.max_steps=3"]).config.train.save_every == 3
    assert resolve(["train.max_steps=20000"]).config.train.save_every == 500
    assert resolve(["train.max_steps=2000"]).config.train.save_every == 200


def test_evaluations_cost_a_share_of_the_training(resolve: Resolve) -> None:
    short = resolve([*EVAL, "train.max_steps=3", "train.batch_size=4"], evaluation={})
    assert short.config.train.eval_every == 3
    reason = short.decisions["train.eval_every"].reason
    assert "1 time in 3 steps; one evaluation is" in reason
    some = resolve(EVAL, evaluation={"rows": 300, "tokens": 60_000})
    assert 15 < some.config.train.eval_every < 75  # type: ignore[operator]


def test_evaluations_are_part_of_the_time(resolve: Resolve) -> None:
    seldom = resolve([*EVAL, "train.eval_every=75"], evaluation={})
    often = resolve([*EVAL, "train.eval_every=1", "train.samples=0"], evaluation={})
    assert seldom.seconds is not None
    assert often.seconds is not None
    assert often.seconds[0] > 2 * seldom.seconds[0]
    assert not seldom.warnings
    assert any("75 evaluations of 60 rows take longer than" in w for w in often.warnings)
    pairs = {"preference": True, "format": "preference"}
    dpo = resolve([*EVAL, "method.kind=dpo"], evaluation=pairs, data=pairs)
    assert dpo.seconds is not None


def test_warm_up_must_leave_steps(resolve: Resolve) -> None:
    with pytest.raises(ConfigError, match="75 steps of warm-up leave nothing of 75 steps"):
        resolve(["optim.warmup=75"])
    assert resolve(["optim.warmup=74"]).steps == 75


def test_what_does_not_suit_the_length_of_the_run_is_said(resolve: Resolve) -> None:
    made = resolve(["train.save_every=100", "train.batch_size=2000", *EVAL], evaluation={})
    text = "\n".join(made.warnings)
    assert "train.save_every 100 is more than the 1 steps" in text
    assert "train.batch_size 2000 is more than the 1,200 rows" in text
