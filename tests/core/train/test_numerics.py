"""Gradient norm, clipping and loss scaling; the verdicts over real runs whose numbers differ."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from ftlab.data import batches
from ftlab.plan import Plan
from ftlab.reproduce import noise, text, verdict
from ftlab.run import Run
from ftlab.train.numerics import (
    LossScaler,
    clip_factor,
    global_norm,
    make_deterministic,
    scale_gradients,
)
from ftlab.train.objectives.sft import Sft


def test_norm_and_clipping_equal_torch() -> None:
    numbers = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in [(63, 5), (1000,), (1,)]]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=numbers) * 3
    gradients = [p.grad.clone() for p in parameters if p.grad is not None]
    expected = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    norm = global_norm(gradients)
    assert norm.dtype == torch.float64
    assert norm.item() == pytest.approx(expected.item(), rel=1e-6)
    scale_gradients(gradients, clip_factor(norm.item(), 1.0))
    for ours, parameter in zip(gradients, parameters, strict=True):
        torch.testing.assert_close(ours, parameter.grad)


@pytest.mark.gpu
def test_norm_on_a_gpu_is_repeatable_and_right() -> None:
    numbers = torch.Generator().manual_seed(0)
    shapes = [(63, 5), (1000,), (1,), (4096, 16), (14336, 16)]
    gradients = [torch.randn(shape, generator=numbers) for shape in shapes]
    on_gpu = [grad.cuda() for grad in gradients]
    norms = {global_norm(on_gpu).item() for _ in range(5)}
    assert len(norms) == 1
    assert norms.pop() == pytest.approx(global_norm(gradients).item(), rel=1e-6)


def test_norm_does_not_overflow_fp32() -> None:
    assert global_norm([torch.full((4,), 1e30)]).item() == pytest.approx(2e30)
    assert global_norm([]).item() == 0


def test_short_gradients_keep_their_bits() -> None:
    gradient = torch.tensor([0.1, 0.2])
    scale_gradients([gradient], clip_factor(0.3, 1.0))
    assert torch.equal(gradient, torch.tensor([0.1, 0.2]))
    assert clip_factor(50.0, 0.0) == 1.0


def test_scale_halves_on_overflow_and_doubles_after_good_steps() -> None:
    scaler = LossScaler(8.0, interval=2)
    scaler.update(overflow=True)
    assert scaler.scale == 4.0
    for _ in range(2):
        scaler.update(overflow=False)
    assert scaler.scale == 8.0
    assert scaler.good_steps == 0


def test_scale_state_goes_there_and_back() -> None:
    scaler, other = LossScaler(interval=5), LossScaler(interval=5)
    for overflow in (False, True, False, False):
        scaler.update(overflow=overflow)
    other.load(scaler.state())
    assert (other.scale, other.good_steps) == (scaler.scale, scaler.good_steps) == (2.0**15, 2)


def test_a_scale_below_one_is_exhausted() -> None:
    scaler = LossScaler(1.0)
    assert not scaler.exhausted
    scaler.update(overflow=True)
    assert scaler.exhausted


def test_scale_must_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        LossScaler(1000.0)


def test_deterministic_mode_fixes_threads_and_products() -> None:
    make_deterministic(1)
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_float32_matmul_precision() == "highest"
    assert math.isfinite(torch.empty(4).fill_(1).sum().item())


# -- the verdict over real runs -------------------------------------------------------------------


Judged = Callable[[Run, Plan], verdict.Verdict]


@pytest.fixture
def base(plan_of: Callable[..., Plan]) -> Plan:
    """A plan without dropout, in micro-batches of 4 of 8 rows."""
    return plan_of(
        "sft", held_out=False, eval_every=0, samples=0, max_steps=12, save_every=12,
        batch_size=8, micro_batch_size=4, adapter={"lora_dropout": 0.0},
        optim={"learning_rate": 1e-3},  # rounding stays small

    )  # fmt: skip


@pytest.fixture
def judged(train_run: Callable[..., tuple[Run, int]]) -> Judged:
    """`judged(a, plan)`: run the plan, and the verdict over both."""

    def judge(a: Run, plan: Plan) -> verdict.Verdict:
        b, code = train_run(plan)
        assert code == 0
        return verdict.judge(a, b)

    return judge


def laid(plan: Plan, size: int) -> Plan:
    """The plan with other micro-batches."""
    config = plan.config
    train = dataclasses.replace(config.train, micro_batch_size=size)
    return dataclasses.replace(plan, config=dataclasses.replace(config, train=train))


def test_rounding_is_numeric_once_its_floor_is_known(
    base: Plan, judged: Judged, train_run: Callable[..., tuple[Run, int]]
) -> None:
    a, _ = train_run(base)
    assert judged(a, base).word == "BITWISE"
    unknown = judged(a, laid(base, 1))
    assert (unknown.word, unknown.exit_code) == ("NOT REPRODUCED", 4)
    assert f"ftrun reproduce {a.id} --calibrate 3" in text.render(unknown)
    others = [(train_run(laid(base, n))[0], f"train.micro_batch_size {n}") for n in (2, 3, 8)]
    noise.save(a, noise.measure(a, others))
    known = judged(a, laid(base, 1))
    assert (known.word, known.exit_code) == ("NUMERIC", 0), text.render(known)
    assert "inside the noise floor that 3 runs" in text.render(known)
    machine = dataclasses.replace(base.facts.machine, threads=2)
    threads = dataclasses.replace(base, facts=dataclasses.replace(base.facts, machine=machine))
    assert judged(a, threads).word in ("BITWISE", "NUMERIC")


def test_what_is_no_rounding_is_not_numeric(
    base: Plan, judged: Judged, train_run: Callable[..., tuple[Run, int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    a, _ = train_run(base)
    noise.save(a, noise.measure(a, [(train_run(laid(base, n))[0], "") for n in (1, 8)]))
    real = Sft.loss

    def wrong(self: Sft, *arguments: Any) -> Any:
        loss, metrics = real(self, *arguments)
        return loss * 1.0001, metrics

    monkeypatch.setattr(Sft, "loss", wrong)
    found = judged(a, base)
    assert (found.word, found.exit_code) == ("NOT REPRODUCED", 4)
    assert found.excess is not None
    assert found.excess.step == 1
    assert "outside the noise floor: step 1" in text.render(found)
    monkeypatch.undo()
    monkeypatch.setattr(
        batches, "permutation", lambda count, **_: np.arange(count, dtype=np.int64)[::-1].copy()
    )
    order = judged(a, base)
    assert order.word == "INCOMPARABLE"
    assert order.first is not None
    assert order.first.field == "batch_hash"


def test_another_seed_or_other_dropout_masks_are_another_run(
    base: Plan, judged: Judged, train_run: Callable[..., tuple[Run, int]]
) -> None:
    a, _ = train_run(base)
    train = dataclasses.replace(base.config.train, seed=1)
    seeded = dataclasses.replace(base, config=dataclasses.replace(base.config, train=train))
    found = judged(a, seeded)
    assert (found.word, found.exit_code) == ("INCOMPARABLE", 4)
    assert "seed" in {field.name for field in found.of_class("numerics")}
    adapter = dataclasses.replace(base.config.adapter, lora_dropout=0.1)
    dropped = dataclasses.replace(base, config=dataclasses.replace(base.config, adapter=adapter))
    b, _ = train_run(dropped)
    masks = judged(b, laid(dropped, 2))
    assert masks.word == "INCOMPARABLE"
    assert "config.train.micro_batch_size" in {f.name for f in masks.of_class("numerics")}
