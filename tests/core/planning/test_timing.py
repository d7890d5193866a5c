"""Time from operations and speeds: proportions, known points, and an honest range."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from ftlab.estimate import Work
from ftlab.facts import Facts, Speed
from ftlab.models.spec import DecoderSpec
from ftlab.planning import timing
from ftlab.planning.timing import Amount
from ftlab.schema import AdapterSection

AMOUNT = Amount(tokens=4096, trained_tokens=4096, mean_length=2048, micro_batches=1)


@pytest.fixture
def llama(make_facts: Callable[..., Facts]) -> Work:
    """One step of the 8 B Llama whose floor the engine's design page states."""
    config = {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 8192,
    }  # fmt: skip
    spec = DecoderSpec.from_dict(make_facts(config).model.spec)
    return Work(
        spec, AdapterSection(r=16), "bf16", "bf16", "adamw", tokens=4096, longest=2048,
        checkpointing=False, cuda=True,
    )  # fmt: skip


def test_operations_of_a_known_step(llama: Work) -> None:
    # Forward 61.5 TFLOP with the head and 2.2 of attention, backward 61.5 + 5.5, without dW.
    plain = timing.operations(llama, AMOUNT)
    assert plain == pytest.approx(131e12, rel=0.03)
    again = timing.operations(dataclasses.replace(llama, checkpointing=True), AMOUNT)
    assert again - plain == pytest.approx(57e12 + 2.2e12, rel=0.03)
    full = dataclasses.replace(llama, adapter=AdapterSection(kind="none"))
    assert timing.operations(full, AMOUNT) > 1.4 * plain


def test_a_reference_pass_costs_a_forward_pass(llama: Work) -> None:
    more = dataclasses.replace(AMOUNT, reference_passes=1)
    extra = timing.operations(llama, more) - timing.operations(llama, AMOUNT)
    assert extra == pytest.approx(61.5e12, rel=0.05)


def test_the_step_that_was_measured_lies_within_the_range(
    llama: Work, make_facts: Callable[..., Facts]
) -> None:
    """2 x 2048 tokens took 0.242 s of GPU work on an H100, 0.262 s with launches."""
    low, high = timing.seconds(llama, AMOUNT, make_facts(gpus=("h100",)).machine, 0)
    assert low < 0.242 < 0.262 < high
    assert low > 0.18  # the floor that the design page states


def test_fewer_trained_tokens_are_cheaper(llama: Work) -> None:
    fewer = dataclasses.replace(AMOUNT, trained_tokens=100)
    assert timing.operations(llama, fewer) < timing.operations(llama, AMOUNT)


@pytest.mark.parametrize("gpu", ["t4", "v100", "a100", "4090", "h100"])
def test_the_range_on_a_gpu(llama: Work, make_facts: Callable[..., Facts], gpu: str) -> None:
    machine = make_facts(gpus=(gpu,)).machine
    low, high = timing.seconds(llama, AMOUNT, machine, 0)
    assert 0 < low < high < 30 * low


def test_faster_cards_take_less_time(llama: Work, make_facts: Callable[..., Facts]) -> None:
    many = dataclasses.replace(AMOUNT, tokens=10**9, micro_batches=10)
    times = [
        timing.seconds(llama, many, make_facts(gpus=(gpu,)).machine, 0)[0]
        for gpu in ("t4", "v100", "a100", "h100")
    ]
    assert times == sorted(times, reverse=True)


def test_small_steps_are_bound_by_the_host(llama: Work, make_facts: Callable[..., Facts]) -> None:
    tiny = Amount(tokens=100, trained_tokens=10, mean_length=10, micro_batches=100)
    low, _ = timing.seconds(llama, tiny, make_facts(gpus=("h100",)).machine, 0)
    assert low == pytest.approx(100 * 32 * timing.GPU_LAYER_SECONDS[0])


def test_a_card_that_is_not_in_the_table(llama: Work, make_facts: Callable[..., Facts]) -> None:
    card = make_facts(gpus=("h100",)).machine.gpus[0]
    newer = dataclasses.replace(card, capability=(11, 0), multiprocessors=0)
    machine = dataclasses.replace(make_facts().machine, gpus=(newer,))
    assert timing.seconds(llama, AMOUNT, machine, 0)[0] > 0


@pytest.mark.parametrize("changes", [{"compute_dtype": "fp32"}, {"compute_dtype": "bf16"}])
def test_the_range_on_a_cpu(
    llama: Work, make_facts: Callable[..., Facts], changes: dict[str, Any]
) -> None:
    work = dataclasses.replace(llama, cuda=False, **changes)
    two = timing.seconds(work, AMOUNT, make_facts().machine, None)
    four = timing.seconds(work, AMOUNT, make_facts(machine={"threads": 4}).machine, None)
    assert 0 < two[0] < two[1]
    assert four[0] < two[0]


def test_earlier_runs_on_the_card_replace_the_vendor_peak(
    llama: Work, make_facts: Callable[..., Facts]
) -> None:
    machine = make_facts(gpus=("h100",)).machine
    took = 0.25
    speed = Speed(
        machine.gpus[0].name, "bf16", "bf16", llama.spec.parameters(), 4096,
        timing.operations(llama, AMOUNT) / took,
    )  # fmt: skip
    wide = timing.seconds(llama, AMOUNT, machine, 0)
    low, high = timing.seconds(llama, AMOUNT, dataclasses.replace(machine, speeds=(speed,)), 0)
    assert wide[0] < low < took < high < wide[1]
    assert high / low < 1.5
    elsewhere = dataclasses.replace(speed, device="another card")
    unmoved = dataclasses.replace(machine, speeds=(elsewhere,))
    assert timing.seconds(llama, AMOUNT, unmoved, 0) == wide
