"""A traced step: every tensor as it is made, the same bits, and the layer at fault named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ftlab.data.batches import build
from ftlab.data.tokens import TokenStore
from ftlab.errors import Interrupted
from ftlab.models.engine import Decoder
from ftlab.reproduce import trace
from ftlab.reproduce.trace import Trace, first_difference
from ftlab.run import Run
from ftlab.train.loop import Hook, fit
from ftlab.train.objectives import Objective
from ftlab.train.objectives.dpo import Dpo, adapter_off
from ftlab.train.objectives.sft import Sft
from ftlab.train.optimizers import optimizer
from ftlab.train.tracing import Tracer

OBJECTIVES: dict[str, Objective] = {"sft": Sft(), "dpo": Dpo(0.1, adapter_off)}
FORWARD = ("input", "q k v", "attention", "o", "stream before the MLP", "gate", "up", "activation",
           "down")  # fmt: skip


def trained(
    decoder: Decoder, store: TokenStore, kind: str, hooks: list[Hook], steps: int
) -> list[Tensor]:
    """The trained tensors after some steps of two micro-batches."""
    batches = build(
        store, seed=1, epochs=1, max_steps=steps, batch_size=6, micro_batch_size=3, max_length=32,
        overlong="truncate", packing=False,
    )  # fmt: skip
    made = optimizer("adamw", decoder.trainable())
    fit(decoder, OBJECTIVES[kind], batches, made, lambda step: 1e-2, hooks)
    return [parameter.detach().clone() for parameter in decoder.trainable().values()]


def traced(decoder: Decoder, store: TokenStore, kind: str, step: int, folder: Path) -> Trace:
    folder.mkdir()
    run = Run(folder)
    with pytest.raises(Interrupted, match=f"step {step} is traced"):
        trained(decoder, store, kind, [Tracer(run, decoder, step)], 4)
    found = trace.read(run, step)
    assert found is not None
    return found


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("step", [1, 3])
def test_every_tensor_is_there_in_order(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore], kind: str, step: int,
    tmp_path: Path,
) -> None:  # fmt: skip
    decoder = small_decoder()
    layers, parameters = decoder.spec.num_layers, list(decoder.trainable())
    found = traced(decoder, stores[kind], kind, step, tmp_path / "r")
    forward = [(e.layer, e.place) for e in found.entries if e.where == "forward" and e.micro == 1]
    assert forward == [
        *((layer, place) for layer in range(layers) for place in FORWARD), (layers, "final norm"),
    ]  # fmt: skip
    backward = [e for e in found.entries if e.where == "backward" and e.micro == 2]
    assert [e.layer for e in backward if e.place == "result"] == [*range(layers)][::-1]
    for micro in (1, 2):
        names = {e.place for e in found.entries if (e.where, e.micro) == ("gradient", micro)}
        assert names == set(parameters)
    assert [e.place for e in found.entries if e.where == "update"] == parameters
    assert any(e.where == "reference" for e in found.entries) == (kind == "dpo")
    assert max(e.micro for e in found.entries) == 2
    assert all(e.norm == e.norm for e in found.entries)


def test_tracing_changes_no_bit(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore], tmp_path: Path
) -> None:
    plain = trained(small_decoder(), stores["sft"], "sft", [], 2)
    decoder = small_decoder()
    found = traced(decoder, stores["sft"], "sft", 2, tmp_path / "r")
    after = [p.detach() for p in decoder.trainable().values()]
    assert all(torch.equal(a, b) for a, b in zip(plain, after, strict=True))
    assert decoder.tap is None
    assert not any(p._post_accumulate_grad_hooks for p in decoder.trainable().values())
    again = traced(small_decoder(), stores["sft"], "sft", 2, tmp_path / "again")
    assert first_difference(found, again) is None


@pytest.mark.parametrize(("part", "place"), [
    ("self_attn.q_proj", "q k v"), ("self_attn.o_proj", "o"), ("mlp.up_proj", "up"),
    ("mlp.down_proj", "down"),
])  # fmt: skip
def test_a_weight_that_is_off_by_one_bit_is_found(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore], part: str, place: str,
    tmp_path: Path,
) -> None:  # fmt: skip
    good = traced(small_decoder(), stores["sft"], "sft", 1, tmp_path / "good")
    decoder = small_decoder()
    (weight,) = (
        value for name, value in decoder.model.named_parameters()
        if f"layers.1.{part}" in name and name.endswith("weight") and "lora" not in name
    )  # fmt: skip
    with torch.no_grad():
        weight[0] = torch.nextafter(weight[0], weight[0] + 1)
    bad = traced(decoder, stores["sft"], "sft", 1, tmp_path / "bad")
    found = first_difference(good, bad)
    assert found is not None
    assert str(found).startswith(f"{place} in layer 1, forward pass of micro-batch 1")


def test_an_evaluation_between_is_not_taken_down(
    small_decoder: Callable[..., Decoder], tmp_path: Path
) -> None:
    decoder = small_decoder()
    tracer = Tracer(Run(tmp_path), decoder, 1)
    tracer.begin(0)
    decoder.eval_mode()
    tracer.seen("reference", 0, "input", torch.ones(2, 2))
    assert tracer.entries == []
    decoder.train_mode()
    tracer.seen("forward", 0, "input", torch.ones(2, 2))
    assert [entry.norm for entry in tracer.entries] == [2.0]
