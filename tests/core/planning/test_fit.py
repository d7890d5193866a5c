"""Memory decides precision, optimizer, micro-batch and recomputing; refusals say what would fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit
from ftlab.plan import Plan

Resolve = Callable[..., Plan]
GIB = 1 << 30


@pytest.fixture
def large() -> dict[str, Any]:
    """The config of an 8 B Llama."""
    return {
        "architectures": ["LlamaForCausalLM"], "vocab_size": 128256, "hidden_size": 4096,
        "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "max_position_embeddings": 131072,
    }  # fmt: skip


def test_16_bit_where_it_fits_else_nf4(resolve: Resolve, large: dict[str, Any]) -> None:
    assert resolve(model=large, gpus=("h100",)).config.model.precision == "bf16"
    made = resolve(model=large, gpus=("t4",))
    assert made.config.model.precision == "nf4"
    assert "fp16 weights (15.0 GiB) do not fit" in made.decisions["model.precision"].reason


def test_without_bitsandbytes_nf4_is_no_way_out(resolve: Resolve, large: dict[str, Any]) -> None:
    with pytest.raises(EnvironmentUnfit, match="a step needs"):
        resolve(model=large, gpus=("t4",), machine={"versions": {"torch": "2.4.1"}})


def test_recomputing_only_where_needed(resolve: Resolve, large: dict[str, Any]) -> None:
    roomy = resolve(model=large, gpus=("h100",), data={"longest": 500})
    assert roomy.config.memory.checkpointing == "off"
    tight = resolve(model=large, gpus=("4090",))
    assert tight.config.memory.checkpointing == "on"
    assert "larger micro-batches" in tight.decisions["memory.checkpointing"].reason


def test_the_micro_batch_fills_the_budget(resolve: Resolve, large: dict[str, Any]) -> None:
    micro = [
        resolve(
            [f"memory.budget={gib}GiB", "train.batch_size=64", "memory.checkpointing=on"],
            model=large,
            gpus=("h100",),
        )
        for gib in (8, 20, 40, 75)
    ]
    tokens = [made.decided("token_budget") for made in micro]
    assert tokens == sorted(tokens)
    assert all(made.total <= gib * GIB for made, gib in zip(micro, (8, 20, 40, 75), strict=True))


def test_asked_values_are_kept(resolve: Resolve) -> None:
    made = resolve(["train.micro_batch_size=3", "memory.checkpointing=on", "optim.name=adamw_8bit"])
    assert made.config.train.micro_batch_size == 3
    assert made.config.memory.checkpointing == "on"
    assert made.config.optim.name == "adamw_8bit"
    assert "train.micro_batch_size" not in made.decisions


def test_full_fine_tuning_falls_back_to_8_bit_state(resolve: Resolve) -> None:
    roomy = resolve(["adapter.kind=none"], gpus=("h100",))
    assert roomy.config.optim.name == "adamw"
    assert "weights kept in fp32" in roomy.decisions["model.precision"].reason
    tight = resolve(["adapter.kind=none", "memory.budget=2600MiB"], gpus=("h100",))
    assert tight.config.optim.name == "adamw_8bit"
    assert "32-bit state would not fit" in tight.decisions["optim.name"].reason


def test_a_refusal_gives_numbers_and_ways_out(resolve: Resolve, large: dict[str, Any]) -> None:
    with pytest.raises(EnvironmentUnfit) as caught:
        resolve(["adapter.kind=none"], model=large, gpus=("h100",), machine={
            "disk_free_bytes": 1 << 50})  # fmt: skip
    text = str(caught.value)
    assert "a step needs" in text
    assert "weights 29.9 GiB" in text
    assert "adapter.kind: lora needs" in text
    with pytest.raises(EnvironmentUnfit) as caught:
        resolve(
            ["train.micro_batch_size=8", "memory.checkpointing=off", "model.precision=fp16"],
            model=large, gpus=("v100",),
        )  # fmt: skip
    text = str(caught.value)
    assert "memory.checkpointing: on, train.micro_batch_size: 1" in text
    assert "model.precision: nf4" in text
    assert "together need" in text
    assert "smaller model" not in text
    with pytest.raises(EnvironmentUnfit, match="so take a smaller model or a larger device"):
        resolve(["memory.budget=2GiB"], model=large, gpus=("v100",))


def test_a_ways_out_really_fits(resolve: Resolve, large: dict[str, Any]) -> None:
    overrides = ["train.micro_batch_size=8", "memory.checkpointing=off", "model.precision=nf4"]
    with pytest.raises(EnvironmentUnfit, match=r"memory\.checkpointing: on needs"):
        resolve(overrides, model=large, gpus=("t4",))
    overrides[1] = "memory.checkpointing=on"
    assert resolve(overrides, model=large, gpus=("t4",)).total < 15 * GIB


def test_the_budget(resolve: Resolve) -> None:
    made = resolve(gpus=("t4",))
    assert "95% of the 15.0 GiB that are free on the GPU" in made.decisions["memory.budget"].reason
    assert "memory.budget" not in resolve(["memory.budget=8GiB"]).decisions
    with pytest.raises(EnvironmentUnfit, match="a step needs"):
        resolve(["memory.budget=500MiB"])


def test_more_budget_than_there_is(resolve: Resolve) -> None:
    with pytest.raises(EnvironmentUnfit, match=r"memory.budget: 40\.0 GiB .* has 16\.0 GiB"):
        resolve(["memory.budget=40GiB"], gpus=("t4",))
    busy = resolve(["memory.budget=15.5GiB"], gpus=("t4",))
    assert any("only 15.0 GiB are free" in warning for warning in busy.warnings)


LONG = ["model.max_length=131072", "data.packing=on", "train.batch_size=1"]


def test_long_rows_are_taken_in_tiles_where_they_would_not_fit(
    resolve: Resolve, large: dict[str, Any]
) -> None:
    """The plan says how many tokens at a time and why; the hash knows it, free memory does not."""
    given = {
        "model": large,
        "machine": {"memory_free_bytes": 200 << 30},
        "data": {"longest": 131072},
    }
    roomy = resolve(LONG, gpus=("h100",), **given)
    assert "memory_tile" not in roomy.decisions
    tight = resolve([*LONG, "memory.budget=20GiB", "model.precision=nf4"], gpus=("h100",), **given)
    decision = tight.decisions["memory_tile"]
    assert decision.value == 4096
    assert "of 131,072: all at once needs" in decision.reason
    assert "/4096" in tight.decided("memory_schedule")
    assert "pinned host memory" in tight.decisions["memory_schedule"].reason
    assert tight.total <= 20 * GIB
    wider = resolve([*LONG, "memory.budget=60GiB", "model.precision=nf4"], gpus=("h100",), **given)
    assert wider.hash != tight.hash


def test_host_memory_that_is_short_is_said(resolve: Resolve, large: dict[str, Any]) -> None:
    overrides = [*LONG, "memory.budget=20GiB", "model.precision=nf4"]
    with pytest.raises(EnvironmentUnfit, match=r"with host memory to pin, beyond the 2\.0 GiB"):
        resolve(
            overrides, model=large, gpus=("h100",), machine={"memory_free_bytes": 4 << 30},
            data={"longest": 131072},
        )  # fmt: skip
