"""swiglu against its formula, gradients included."""

from __future__ import annotations

import torch

from ftlab_kernels.reference.swiglu import swiglu


def test_equals_the_formula_with_gradients() -> None:
    gate = torch.randn(63, 5, dtype=torch.float64, requires_grad=True)
    up = torch.randn(63, 5, dtype=torch.float64, requires_grad=True)
    ours, theirs = swiglu(gate, up), gate / (1 + (-gate).exp()) * up
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (gate, up), upstream),
        torch.autograd.grad(theirs, (gate, up), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
