"""recomputed: same bits, less kept, nothing computed behind the last tensor needed."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ftlab.models.recompute import recomputed


class Layer:
    """Two products with a nonlinearity between, counting how often each part runs."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.first = nn.Parameter(torch.randn(6, 6, generator=generator))
        self.second = nn.Parameter(torch.randn(6, 6, generator=generator))
        self.runs = [0, 0]

    def __call__(self, x: Tensor, scale: float, frozen: bool = False) -> Tensor:
        self.runs[0] += 1
        inner = torch.tanh(x @ self.first) * scale
        second = self.second.detach() if frozen else self.second
        result = x + inner.sigmoid() @ second
        self.runs[1] += 1
        return result


def test_values_and_gradients_have_the_same_bits() -> None:
    layer, x = Layer(), torch.randn(4, 6, requires_grad=True)
    inputs = (x, layer.first, layer.second)
    plain = layer(x, 0.5)
    again = recomputed(layer, x, 0.5)
    assert torch.equal(plain, again)
    for a, b in zip(
        torch.autograd.grad(plain.square().sum(), inputs),
        torch.autograd.grad(again.square().sum(), inputs),
        strict=True,
    ):
        assert torch.equal(a, b)
    assert layer.runs == [3, 2]


def test_only_the_input_is_kept() -> None:
    layer, x = Layer(), torch.randn(4, 6, requires_grad=True)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        recomputed(layer, x, 0.5)
    assert kept == []


def test_backward_twice_computes_again() -> None:
    layer, x = Layer(), torch.randn(4, 6, requires_grad=True)
    loss = recomputed(layer, x, 0.5).sum()
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    (second,) = torch.autograd.grad(loss, x)
    assert torch.equal(first, second)
    assert layer.runs[0] == 3


def test_layers_follow_each_other_and_an_input_without_gradient_is_fine() -> None:
    first, second = Layer(), Layer()
    x = torch.randn(4, 6)
    y = recomputed(second, recomputed(first, x, 0.5), 0.25)
    grads = torch.autograd.grad(y.sum(), (first.first, second.second))
    plain = torch.autograd.grad(second(first(x, 0.5), 0.25).sum(), (first.first, second.second))
    assert all(torch.equal(a, b) for a, b in zip(grads, plain, strict=True))
