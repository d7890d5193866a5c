"""The speed of a run reaches the plans of later ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ftlab.estimate import Work
from ftlab.models.families import spec_from_config
from ftlab.planning import measured, timing
from ftlab.planning.timing import Amount
from ftlab.schema import AdapterSection
from ftlab.train.loop import StepResult
from ftlab.train.pace import LEAST, WARM, Pace

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 64, "hidden_size": 64,
    "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-5,
}  # fmt: skip
WORK = Work(
    spec_from_config(CONFIG), AdapterSection(r=4), "fp32", "fp32", "adamw", 100, 50, False, False
)
STEP = StepResult(1, 0.1, 2.0, 1.0, 1e-4, 100, 60, 1, False, 0.5, {})


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path))


def _run(steps: int, reference_passes: int = 0) -> None:
    pace = Pace("a processor", WORK, 25.0, reference_passes)
    pace.begin(0)
    for number in range(steps):
        slow = 50.0 if number < WARM else 0.5  # what compiles does not count
        pace.after_step(dataclasses.replace(STEP, seconds=slow))
    pace.remember()


def test_the_median_after_the_first_steps_is_remembered() -> None:
    _run(WARM + LEAST)
    (speed,) = measured.read()
    amount = Amount(tokens=100, trained_tokens=60, mean_length=25.0, micro_batches=1)
    assert speed.rate == pytest.approx(timing.operations(WORK, amount) / 0.5)
    assert (speed.device, speed.precision, speed.compute_dtype) == ("a processor", "fp32", "fp32")
    assert speed.parameters == WORK.spec.parameters()


def test_a_reference_pass_is_part_of_the_work() -> None:
    _run(WARM + LEAST)
    (plain,) = measured.read()
    _run(WARM + LEAST, reference_passes=1)
    (more,) = measured.read()
    assert more.rate > 1.2 * plain.rate


def test_few_steps_tell_nothing() -> None:
    _run(WARM + LEAST - 1)
    assert measured.read() == ()
