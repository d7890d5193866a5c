"""The chosen schedule fits, and is no slower with more memory."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab import estimate
from ftlab.estimate import GIB, Work
from ftlab.models.families import spec_from_config
from ftlab.planning.buffers import KEPT_GRADIENTS
from ftlab.planning.memory import Speeds, fastest, least, predicted
from ftlab.planning.schedule import KEEP_ALL, RECOMPUTE_ALL, uniform
from ftlab.schema import AdapterSection

LLAMA3 = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
}  # fmt: skip


def work(**changes: Any) -> Work:
    values = {
        "spec": spec_from_config(LLAMA3), "adapter": AdapterSection(r=16), "precision": "nf4",
        "compute_dtype": "bf16", "optimizer": "adamw_8bit", "tokens": 4096, "longest": 2048,
        "checkpointing": False, "cuda": True, **changes,
    }  # fmt: skip
    return Work(**values)


BUDGETS = [6.8, 7, 8, 9, 10, 12, 14, 16, 18, 20]


def test_every_budget_is_met_and_more_memory_never_costs_time() -> None:
    seconds = []
    for gib in BUDGETS:
        chosen = fastest(work(), int(gib * GIB))
        assert chosen is not None, gib
        assert chosen.peak <= gib * GIB
        assert chosen.peak == predicted(work(), chosen.schedule)
        seconds.append(chosen.seconds)
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == 0


MEASURED = {  # GiB at the peak of a step of `bench/compare.py` on an H100, 2026-11-24
    "nf4": {6.8: 6.770, 8: 7.982, 10: 9.986, 12: 11.960, 16: 15.978, 20: 17.931},
    "bf16": {80: 27.642},
}


@pytest.mark.parametrize("precision", MEASURED)
def test_predictions_are_what_was_measured(precision: str) -> None:
    for budget, peak in MEASURED[precision].items():
        chosen = fastest(work(precision=precision), int(budget * GIB))
        assert chosen is not None
        assert chosen.peak == pytest.approx(peak * GIB, rel=0.01), (precision, budget)


def test_few_gradients_stay_and_many_are_made_anew() -> None:
    """A CPU makes gradients layer by layer; on a GPU they are there from the first step on."""
    large = work(adapter=AdapterSection(kind="none"), precision="bf16", optimizer="adamw")
    assert estimate.trained_parameters(large.spec, large.adapter) > KEPT_GRADIENTS
    kept = work(adapter=AdapterSection(r=16))
    elsewhere = work(adapter=AdapterSection(r=16), cuda=False)
    schedule = uniform(32, KEEP_ALL)
    assert predicted(kept, schedule) > predicted(elsewhere, schedule)


def test_what_does_not_fit_is_none() -> None:
    smallest = least(work())
    assert fastest(work(), smallest.peak - 1) is None
    assert fastest(work(), smallest.peak) is not None


def test_room_for_everything_keeps_everything() -> None:
    chosen = fastest(work(), 80 * GIB)
    assert chosen is not None
    assert chosen.schedule == uniform(32, KEEP_ALL)
    assert chosen.host == 0


def test_the_bounds_of_memory() -> None:
    assert least(work()).peak < predicted(work(), uniform(32, RECOMPUTE_ALL))
    assert predicted(work(), uniform(32, RECOMPUTE_ALL)) < predicted(work(), uniform(32, KEEP_ALL))


def test_a_slow_link_is_not_used() -> None:
    chosen = fastest(work(), 9 * GIB, Speeds(host_link=1e8))
    assert chosen is not None
    assert chosen.host == 0


@pytest.mark.parametrize("gib", [8, 12])
def test_the_least_is_spent_on_recomputing(gib: int) -> None:
    """Against full recomputing, which Unsloth's modes do: the choice costs less time."""
    chosen = fastest(work(), gib * GIB)
    assert chosen is not None
    full = 32 * (0.0014 + 0.0003 + 0.0002)  # gate and up, q k v, o: seconds at 690 TFLOP/s
    assert chosen.seconds < full
