"""Weights that lie below each other once, however often they are bound."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ftlab.lora.layers import LoraTensors
from ftlab.models.fused.joined import JoinedGroup
from ftlab.models.fused.targets import Pass, Target
from ftlab.models.fused.workspace import Workspace


def parameter(*shape: int, seed: int, trains: bool = True) -> nn.Parameter:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return nn.Parameter(drawn, requires_grad=trains)


def group() -> tuple[JoinedGroup, list[Target]]:
    """Two projections of 5 and 3 outputs over 4 inputs; the second has an adapter of rank 2."""
    lora = LoraTensors(parameter(2, 4, seed=3), parameter(3, 2, seed=4), 1.5, 0.0, None)
    parts = [
        Target(parameter(5, 4, seed=1, trains=False), None, None, 0, 0, 5, 0),
        Target(parameter(3, 4, seed=2, trains=False), None, lora, 1, 5, 8, 0),
    ]
    return JoinedGroup(parts, 4, "wide"), parts


def test_values_and_gradients_are_those_of_autograd() -> None:
    made, parts = group()
    x, dy = (torch.randn(6, n, dtype=torch.float64, requires_grad=True) for n in (4, 8))
    (plain, adapted), lora = parts, parts[1].lora
    assert lora is not None
    assert isinstance(plain.weight, Tensor)
    assert isinstance(adapted.weight, Tensor)
    inner = x @ adapted.weight.t() + lora.scaling * (x @ lora.a.t() @ lora.b.t())
    expected = torch.cat((x @ plain.weight.t(), inner), dim=1)
    grads = torch.autograd.grad(expected, [x, lora.a, lora.b], dy)
    for slopes in (True, False):  # G from the input's gradient, or made where that is not needed
        shared = Pass(Workspace(x.device, x.dtype), None)
        y, low = torch.empty(6, 8, dtype=x.dtype), torch.empty(6, 2, dtype=x.dtype)
        made.forward(shared, x.detach(), y, low, fresh=True)
        torch.testing.assert_close(y, expected.detach())
        if slopes:
            dx = torch.empty_like(x)
            made.backward_input(shared, dy.detach(), dx, low)
            torch.testing.assert_close(dx, grads[0])
        made.backward_parameters(shared, dy.detach(), x.detach(), low, slopes=slopes)
        torch.testing.assert_close(shared.gradients.found[id(lora.a)], grads[1])
        torch.testing.assert_close(shared.gradients.found[id(lora.b)], grads[2])
        assert not shared.slopes


def test_weights_are_moved_together_once() -> None:
    first, parts = group()
    again = JoinedGroup(parts, 4, "wide")
    assert again.weight.data_ptr() == first.weight.data_ptr() == parts[0].weight.data_ptr()
    assert again.weight.shape == (8, 4)
    assert torch.equal(again.weight[5:], parts[1].weight)


def test_what_it_leaves_to_others() -> None:
    _, parts = group()
    assert JoinedGroup.takes(parts, torch.float64)
    assert not JoinedGroup.takes(parts, torch.bfloat16)
    trained = Target(parameter(5, 4, seed=1), None, None, 0, 0, 5, 0)
    assert not JoinedGroup.takes([trained], torch.float64)
