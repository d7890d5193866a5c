"""The loop: accumulation, clipping, loss scaling, refusal of NaN, and the same bits every time."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from ftlab.data.batches import BatchIndex, build
from ftlab.data.tokens import TokenStore
from ftlab.models.engine import Decoder
from ftlab.schema import AdapterSection
from ftlab.train.loop import NonFinite, StepResult, fit
from ftlab.train.numerics import LossScaler
from ftlab.train.objectives import Objective
from ftlab.train.objectives.dpo import Dpo, adapter_off
from ftlab.train.objectives.sft import Sft
from ftlab.train.optimizers import optimizer

OBJECTIVES: dict[str, Objective] = {"sft": Sft(), "dpo": Dpo(0.1, adapter_off)}


class Collector:
    """A hook that remembers every result."""

    def __init__(self) -> None:
        self.results: list[StepResult] = []
        self.began: int | None = None

    def begin(self, step: int) -> None:
        self.began = step

    def after_step(self, result: StepResult) -> None:
        self.results.append(result)


def batches_of(store: TokenStore, **changes: Any) -> BatchIndex:
    settings: dict[str, Any] = {
        "seed": 1, "epochs": 1, "max_steps": 4, "batch_size": 6, "micro_batch_size": 6,
        "max_length": 32, "overlong": "truncate", "packing": False,
    }  # fmt: skip
    return build(store, **settings | changes)


def run(
    decoder: Decoder, batches: BatchIndex, objective: Objective, **options: Any
) -> tuple[list[StepResult], list[Tensor]]:
    """Results of every step and the trained tensors afterwards."""
    collector = Collector()
    parameters = decoder.trainable()
    made = optimizer("adamw", parameters)
    fit(decoder, objective, batches, made, lambda step: 1e-2, [collector], **options)
    return collector.results, [p.detach().clone() for p in parameters.values()]


@pytest.mark.parametrize("kind", ["sft", "dpo"])
@pytest.mark.parametrize("layout", [{"micro_batch_size": 1}, {"micro_batch_size": 4},
                                    {"packing": True, "micro_batch_size": 2}])  # fmt: skip
def test_accumulation_is_one_big_batch(
    small_decoder: Callable[..., Decoder],
    stores: dict[str, TokenStore],
    kind: str,
    layout: dict[str, Any],
) -> None:
    whole, one = run(small_decoder(), batches_of(stores[kind]), OBJECTIVES[kind])
    parts, many = run(small_decoder(), batches_of(stores[kind], **layout), OBJECTIVES[kind])
    for big, small in zip(whole, parts, strict=True):
        assert small.loss == pytest.approx(big.loss, rel=1e-5)
        assert small.grad_norm == pytest.approx(big.grad_norm, rel=1e-4)
        assert (small.tokens, small.trained_tokens) == (big.tokens, big.trained_tokens)
        assert small.batch_hash == big.batch_hash
        assert small.metrics == pytest.approx(big.metrics, rel=1e-4, abs=1e-5)
    for a, b in zip(one, many, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_loss_is_the_mean_over_the_trained_tokens_of_the_step(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    """Not the mean of the micro-batches' means, which weighs tokens unequally."""
    decoder = small_decoder()
    batches = batches_of(stores["sft"], micro_batch_size=1, max_steps=1)
    losses, tokens = 0.0, 0
    for micro in batches.step(0).micro:
        with torch.no_grad():
            logits = decoder.model(torch.from_numpy(micro.input_ids)[None]).logits[0]
        labels = torch.from_numpy(micro.labels)
        losses += torch.nn.functional.cross_entropy(logits, labels, reduction="sum").item()
        tokens += int((labels != -100).sum())
    results, _ = run(decoder, batches, Sft())
    assert results[0].loss == pytest.approx(losses / tokens, rel=1e-5)
    assert results[0].trained_tokens == tokens


@pytest.mark.parametrize("kind", ["sft", "dpo"])
def test_same_inputs_same_bits_with_dropout(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore], kind: str
) -> None:
    dropout = AdapterSection(r=4, lora_dropout=0.2)
    runs = [
        run(small_decoder(dropout), batches_of(stores[kind]), OBJECTIVES[kind], seed=seed)
        for seed in (7, 7, 8)
    ]
    bits = [[(r.loss, r.grad_norm) for r in results] for results, _ in runs]
    assert bits[0] == bits[1]
    assert bits[0] != bits[2]
    assert all(torch.equal(a, b) for a, b in zip(runs[0][1], runs[1][1], strict=True))


def test_first_update_is_that_of_a_plain_loop(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    batches = batches_of(stores["sft"], max_steps=1)
    results, ours = run(small_decoder(), batches, Sft(), max_grad_norm=0.05)
    decoder = small_decoder()
    micro = batches.step(0).micro[0]
    hidden = decoder.hidden(
        torch.from_numpy(micro.input_ids), torch.from_numpy(micro.position_ids), micro.cu_seqlens
    )
    losses = decoder.token_loss(hidden, torch.from_numpy(micro.labels))
    (losses.sum() / int((micro.labels != -100).sum())).backward()
    parameters = list(decoder.trainable().values())
    norm = torch.nn.utils.clip_grad_norm_(parameters, 0.05)
    assert results[0].grad_norm == pytest.approx(norm.item(), rel=1e-5)
    assert norm > 0.05
    torch.optim.AdamW(parameters, lr=1e-2, weight_decay=0.0).step()
    for mine, theirs in zip(ours, parameters, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), rtol=1e-4, atol=1e-6)


def test_starts_where_it_is_told_and_tells_hooks(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    decoder, collector = small_decoder(), Collector()
    fit(
        decoder, Sft(), batches_of(stores["sft"]), optimizer("adamw", decoder.trainable()),
        lambda step: step / 100, [collector], start=2,
    )  # fmt: skip
    assert collector.began == 2
    assert [(r.step, r.lr) for r in collector.results] == [(3, 0.02), (4, 0.03)]
    assert collector.results[-1].epoch == pytest.approx(4 / 7)


class Poisoned(Sft):
    """An objective whose loss is NaN where one row of the store takes part."""

    __slots__ = ()
    row = -1

    def loss(self, model: Any, batch: Any, rng: Any) -> Any:
        loss, metrics = super().loss(model, batch, rng)
        return (loss * math.nan if self.row in batch.rows else loss), metrics


@pytest.mark.parametrize("only_gradient", [False, True])
def test_nan_stops_before_the_update_and_names_the_rows(
    small_decoder: Callable[..., Decoder],
    stores: dict[str, TokenStore],
    monkeypatch: pytest.MonkeyPatch,
    only_gradient: bool,
) -> None:
    decoder, batches = small_decoder(), batches_of(stores["sft"], micro_batch_size=2)
    guilty = batches.step(2).micro[1].rows.tolist()
    monkeypatch.setattr(Poisoned, "row", guilty[0])
    if only_gradient:
        _poison_gradient(monkeypatch, batches, decoder)
    collector, before = Collector(), {}

    class Remember(Collector):
        def after_step(self, result: StepResult) -> None:
            before.update({n: p.detach().clone() for n, p in decoder.trainable().items()})

    made = optimizer("adamw", decoder.trainable())
    with pytest.raises(NonFinite) as caught:
        fit(decoder, Sft() if only_gradient else Poisoned(), batches, made, lambda step: 1e-2,
            [collector, Remember()])  # fmt: skip
    assert [r.step for r in collector.results] == [1, 2]
    message = str(caught.value)
    assert "step 3" in message
    assert "the update was not made" in message
    if only_gradient:
        assert "gradient norm" in message
    else:
        assert f"rows {guilty[0]}, {guilty[1]};" in message
    for name, parameter in decoder.trainable().items():
        assert torch.equal(parameter, before[name]), name
    assert caught.value.exit_code == 1


def _poison_gradient(
    monkeypatch: pytest.MonkeyPatch, batches: BatchIndex, decoder: Decoder
) -> None:
    """Make the first gradient of the third step infinite."""
    parameter, calls = next(iter(decoder.trainable().values())), []

    def poison(grad: Tensor) -> Tensor:
        calls.append(1)
        per_step = len(batches.step(0).micro)
        return grad * float("inf") if len(calls) == 2 * per_step + 1 else grad

    parameter.register_hook(poison)


def test_many_rows_are_not_all_listed(
    small_decoder: Callable[..., Decoder],
    stores: dict[str, TokenStore],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    batches = batches_of(stores["sft"], batch_size=40, micro_batch_size=40, max_steps=1)
    monkeypatch.setattr(Poisoned, "row", 0)
    decoder = small_decoder()
    with pytest.raises(NonFinite, match="and 8 more"):
        fit(decoder, Poisoned(), batches, optimizer("adamw", decoder.trainable()), lambda step: 0.1)


def test_a_power_of_two_scale_changes_no_bit(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    plain, one = run(small_decoder(), batches_of(stores["sft"]), Sft(), max_grad_norm=0.1)
    scaled, two = run(
        small_decoder(), batches_of(stores["sft"]), Sft(), max_grad_norm=0.1,
        scaler=LossScaler(2.0**10),
    )  # fmt: skip
    assert [r.loss for r in plain] == [r.loss for r in scaled]
    for a, b in zip(one, two, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)


def test_overflow_skips_the_update_and_lowers_the_scale(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    decoder, batches = small_decoder(), batches_of(stores["sft"])
    calls: list[int] = []

    def overflow(grad: Tensor) -> Tensor:
        calls.append(1)
        return grad * math.inf if len(calls) == 2 else grad

    parameters = decoder.trainable()
    next(iter(parameters.values())).register_hook(overflow)
    seen: list[dict[str, Tensor]] = []

    class Remember(Collector):
        def after_step(self, result: StepResult) -> None:
            super().after_step(result)
            seen.append({n: p.detach().clone() for n, p in parameters.items()})

    hook, scaler = Remember(), LossScaler(2.0**8)
    made = optimizer("adamw", parameters)
    fit(decoder, Sft(), batches, made, lambda step: 1e-2, [hook], scaler=scaler)
    assert [r.skipped for r in hook.results] == [False, True, False, False]
    assert math.isinf(hook.results[1].grad_norm)
    assert scaler.scale == 2.0**7
    assert all(torch.equal(seen[0][name], seen[1][name]) for name in parameters)
    assert not all(torch.equal(seen[1][name], seen[2][name]) for name in parameters)


def test_overflow_at_every_scale_is_divergence(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    decoder, scaler = small_decoder(), LossScaler(2.0)
    parameters = decoder.trainable()
    next(iter(parameters.values())).register_hook(lambda grad: grad * math.inf)
    made = optimizer("adamw", parameters)
    with pytest.raises(NonFinite, match="gradient norm of step 3"):
        fit(decoder, Sft(), batches_of(stores["sft"]), made, lambda step: 1e-2, scaler=scaler)


def test_no_gradient_outlives_its_step(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore]
) -> None:
    decoder, alive = small_decoder(), list[int]()

    class Watch(Collector):
        def after_step(self, result: StepResult) -> None:
            alive.append(sum(ref() is not None for ref in seen))
            seen.clear()

    seen: list[weakref.ref[Tensor]] = []
    for parameter in decoder.trainable().values():
        parameter.register_post_accumulate_grad_hook(lambda p: seen.append(weakref.ref(p.grad)))
    made = optimizer("adamw", decoder.trainable())
    fit(decoder, Sft(), batches_of(stores["sft"]), made, lambda step: 1e-2, [Watch()])
    assert alive == [0] * 4
