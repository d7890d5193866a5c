"""Gradient norm, clipping and loss scaling."""

from __future__ import annotations

import math

import pytest
import torch

from ftlab.train.numerics import (
    LossScaler,
    clip_factor,
    global_norm,
    make_deterministic,
    scale_gradients,
)


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
