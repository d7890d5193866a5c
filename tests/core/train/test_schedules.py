"""Schedules: shapes, warm-up, and transformers' own values after it."""

from __future__ import annotations

import pytest
import torch
from transformers import get_scheduler

from ftlab.train.schedules import schedule, warmup_steps


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_equals_transformers_after_warmup(kind: str) -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=3e-4)
    theirs = get_scheduler(kind, optimizer, num_warmup_steps=4, num_training_steps=50)
    ours = schedule(kind, peak=3e-4, steps=50, warmup=4)
    for step in range(50):
        if step >= 4:
            assert ours(step) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12, abs=1e-18)
        optimizer.step()
        theirs.step()


def test_warmup_rises_to_the_peak_and_wastes_no_step() -> None:
    rate = schedule("linear", peak=1.0, steps=10, warmup=4)
    assert [rate(step) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rate(9) == pytest.approx(1 / 6)


def test_constant_stays_at_the_peak() -> None:
    rate = schedule("constant", peak=0.5, steps=10, warmup=0)
    assert {rate(step) for step in range(10)} == {0.5}


@pytest.mark.parametrize(
    ("steps", "warmup", "expected"),
    [(100, 0.03, 3), (101, 0.03, 4), (10, 0.0, 0), (10, 3, 3), (10, 50, 10), (1, 0.03, 1)],
)
def test_warmup_is_a_share_or_a_number(steps: int, warmup: float, expected: int) -> None:
    assert warmup_steps(steps, warmup) == expected


def test_a_single_step_is_trained_at_the_peak() -> None:
    assert schedule("cosine", peak=1.0, steps=1, warmup=0.03)(0) == 1.0


def test_unknown_kind_names_the_known_ones() -> None:
    with pytest.raises(ValueError, match="linear, cosine, constant"):
        schedule("step", peak=1.0, steps=1, warmup=0)
