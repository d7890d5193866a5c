"""geglu against both formulas, gradients included."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from ftlab_kernels.reference.geglu import geglu

FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda g: g * (1 + torch.erf(g / math.sqrt(2))) / 2,
    "tanh": lambda g: g * (1 + torch.tanh(math.sqrt(2 / math.pi) * (g + 0.044715 * g**3))) / 2,
}


@pytest.mark.parametrize("approximate", FORMULAS)
def test_equals_the_formula_with_gradients(approximate: str) -> None:
    gate = torch.randn(63, 5, dtype=torch.float64, requires_grad=True)
    up = torch.randn(63, 5, dtype=torch.float64, requires_grad=True)
    ours = geglu(gate, up, approximate)  # type: ignore[arg-type]
    theirs = FORMULAS[approximate](gate) * up
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    for a, b in zip(
        torch.autograd.grad(ours, (gate, up), upstream),
        torch.autograd.grad(theirs, (gate, up), upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
