"""A step's memory as the engine will run it."""

from __future__ import annotations

import dataclasses

from ftlab import estimate
from ftlab.estimate import CUDA_CONTEXT, GIB, Work
from ftlab.facts import Machine
from ftlab.models.families import spec_from_config
from ftlab.planning.scheduling import pinnable, schedule_of, step_memory
from ftlab.schema import AdapterSection

LLAMA3 = {
    "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096,
    "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "rms_norm_eps": 1e-5,
}  # fmt: skip


def work() -> Work:
    adapter = AdapterSection(r=16)
    return Work(
        spec_from_config(LLAMA3), adapter, "nf4", "bf16", "adamw_8bit", 4096, 2048, False, True
    )


def test_terms_add_up_to_the_predicted_peak() -> None:
    again = dataclasses.replace(work(), checkpointing=True)
    for gib in (9, 12, 24):
        chosen = schedule_of(again, gib * GIB)
        assert chosen is not None
        terms = step_memory(again, gib * GIB)
        assert sum(terms.values()) == chosen.peak + CUDA_CONTEXT <= gib * GIB


def test_keeping_everything_needs_most_and_none_the_least() -> None:
    again = dataclasses.replace(work(), checkpointing=True)
    assert sum(step_memory(work(), 9 * GIB).values()) > 16 * GIB
    assert sum(step_memory(again, None).values()) < 7.5 * GIB


def test_the_cpu_keeps_its_formula() -> None:
    on_cpu = dataclasses.replace(work(), cuda=False)
    assert step_memory(on_cpu, 9 * GIB) == estimate.memory(on_cpu)


def test_no_more_is_pinned_than_the_host_can_spare() -> None:
    again = dataclasses.replace(work(), checkpointing=True)
    free = schedule_of(again, 9 * GIB)
    assert free is not None
    assert free.host > 0
    bound = schedule_of(dataclasses.replace(again, host=free.host // 2), 9 * GIB)
    assert bound is not None
    assert bound.host <= free.host // 2
    none = schedule_of(dataclasses.replace(again, host=0), None)
    assert none is not None
    assert none.host == 0


def test_most_of_a_large_host_may_be_pinned_and_half_of_a_small_one() -> None:
    machine = Machine("Linux", "cpu", 2, 2, False, 8 << 30, 16 << 30, 9 << 30)
    assert pinnable(machine) == 8 << 30
    large = dataclasses.replace(machine, memory_free_bytes=128 << 30)
    assert pinnable(large) == 96 << 30
