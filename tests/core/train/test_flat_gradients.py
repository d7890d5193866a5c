"""Gradients end to end: views that stay, cleared at once, and the same training."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import Parameter

from ftlab.data.batches import build
from ftlab.data.tokens import TokenStore
from ftlab.models.engine import Decoder
from ftlab.train.flat_gradients import FlatGradients, end_to_end, in_blocks
from ftlab.train.loop import StepResult, fit
from ftlab.train.objectives.sft import Sft
from ftlab.train.optimizers import optimizer


def _parameters() -> list[Parameter]:
    shapes = [(7,), (16, 512), (33, 256), (512, 16), (130,)]
    return [Parameter(torch.ones(shape)) for shape in shapes] + [
        Parameter(torch.ones(64, dtype=torch.bfloat16))
    ]


def test_every_gradient_is_a_view() -> None:
    parameters = _parameters()
    made = FlatGradients(torch.optim.SGD(parameters, lr=1.0))
    assert [buffer.dtype for buffer in made.buffers] == [torch.float32, torch.bfloat16]
    for parameter in parameters:
        assert parameter.grad is made.views[id(parameter)]
        assert parameter.grad.shape == parameter.shape
        parameter.grad.fill_(2.0)
    assert sum(float((buffer != 0).sum()) for buffer in made.buffers) == sum(
        parameter.numel() for parameter in parameters
    ), "no two overlap"
    made.clear()
    assert all((parameter.grad == 0).all() for parameter in parameters)


def test_those_of_a_joint_update_lie_end_to_end() -> None:
    parameters = _parameters()
    FlatGradients(torch.optim.SGD(parameters, lr=1.0))
    chosen = [p for p in parameters if in_blocks(p)]
    assert len(chosen) == 3
    joint = end_to_end([p.grad for p in chosen if p.grad is not None])
    assert joint is not None
    joint.copy_(torch.arange(len(joint)))
    start = 0
    for parameter in chosen:
        assert parameter.grad is not None
        assert parameter.grad.flatten()[0] == start
        start += parameter.numel()


def test_others_do_not() -> None:
    whole = torch.zeros(100)
    assert end_to_end([whole[:10], whole[20:30]]) is None
    assert end_to_end([whole[:10], torch.zeros(5)]) is None
    assert end_to_end([whole.view(10, 10)[:, :5], whole[50:60]]) is None
    found = end_to_end([whole[10:20], whole[20:30]])
    assert found is not None
    assert found.shape == (20,)


def test_many_are_not_kept() -> None:
    with torch.device("meta"):
        large = [Parameter(torch.empty(1 << 14, 1 << 15))]
    assert not FlatGradients.fits(torch.optim.SGD(large, lr=1.0))
    assert FlatGradients.fits(torch.optim.SGD(_parameters(), lr=1.0))


class _Losses:
    def __init__(self) -> None:
        self.found: list[tuple[float, float]] = []

    def begin(self, step: int) -> None:
        assert step == 0

    def after_step(self, result: StepResult) -> None:
        self.found.append((result.loss, result.grad_norm))


@pytest.mark.parametrize("micro", [2, 6])
@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_training_is_the_same(
    small_decoder: Callable[..., Decoder], stores: dict[str, TokenStore], micro: int, name: str
) -> None:
    batches = build(
        stores["sft"], seed=1, epochs=1, max_steps=4, batch_size=6, micro_batch_size=micro,
        max_length=32, overlong="truncate", packing=False,
    )  # fmt: skip
    found = []
    for kept in (False, True):
        decoder, losses = small_decoder(), _Losses()
        made = optimizer(name, decoder.trainable())
        gradients = FlatGradients(made) if kept else None
        if gradients is not None:
            decoder.keep_gradients(gradients.views)
        fit(
            decoder, Sft(), batches, made, lambda step: 1e-2, [losses], max_grad_norm=0.5,
            gradients=gradients,
        )  # fmt: skip
        found.append((losses.found, [p.detach() for p in decoder.trainable().values()]))
    (plain, weights), (flat, kept_weights) = found
    assert [loss for loss, _ in plain] == pytest.approx([loss for loss, _ in flat], rel=1e-6)
    assert [norm for _, norm in plain] == pytest.approx([norm for _, norm in flat], rel=1e-6)
    for a, b in zip(weights, kept_weights, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
