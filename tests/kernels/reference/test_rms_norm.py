"""rms_norm against its formula in fp64, both rounding orders, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ftlab_kernels.reference.rms_norm import rms_norm


def formula(x: Tensor, weight: Tensor, eps: float, offset: float) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * (weight + offset)


@pytest.mark.parametrize("offset", [0.0, 1.0])
@pytest.mark.parametrize("weight_fp32", [False, True])
@pytest.mark.parametrize("width", [1, 63, 500])
def test_equals_the_formula_with_gradients(width: int, offset: float, weight_fp32: bool) -> None:
    x = torch.randn(7, 3, width, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(width, dtype=torch.float64, requires_grad=True)
    ours = rms_norm(x, weight, 1e-5, offset, weight_fp32=weight_fp32)
    theirs = formula(x, weight, 1e-5, offset)
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (x, weight), upstream),
        torch.autograd.grad(theirs, (x, weight), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_rounding_orders_differ_and_stay_near_the_truth() -> None:
    x = torch.randn(64, 96).to(torch.bfloat16)
    weight = torch.randn(96).to(torch.bfloat16)
    early = rms_norm(x, weight, 1e-6)
    late = rms_norm(x, weight, 1e-6, weight_fp32=True)
    truth = formula(x.double(), weight.double(), 1e-6, 0.0)
    assert early.dtype == late.dtype == torch.bfloat16
    assert not torch.equal(early, late)
    assert (late.double() - truth).abs().max() <= (early.double() - truth).abs().max()
    torch.testing.assert_close(early.double(), truth, rtol=2**-6, atol=2**-8)


def test_fp32_weight_does_not_widen_the_result() -> None:
    x = torch.randn(4, 8).to(torch.bfloat16)
    assert rms_norm(x, torch.randn(8), 1e-6, 1.0).dtype == torch.bfloat16
