"""layer_norm against torch's, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from ftlab_kernels.reference.layer_norm import layer_norm


@pytest.mark.parametrize("biased", [False, True])
def test_equals_torch_with_gradients(biased: bool) -> None:
    x = torch.randn(5, 63, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(63, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(63, dtype=torch.float64, requires_grad=True) if biased else None
    ours, theirs = layer_norm(x, weight, bias, 1e-5), F.layer_norm(x, (63,), weight, bias, 1e-5)
    torch.testing.assert_close(ours, theirs)
    inputs = (x, weight) if bias is None else (x, weight, bias)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_keeps_the_dtype() -> None:
    x = torch.randn(2, 8).to(torch.float16)
    assert layer_norm(x, torch.ones(8), torch.zeros(8), 1e-5).dtype == torch.float16
