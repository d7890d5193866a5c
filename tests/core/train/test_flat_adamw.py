"""One launch for all parameters gives the bits of bitsandbytes' one launch each."""

from __future__ import annotations

import torch
from bitsandbytes.optim import AdamW8bit
from torch.nn import Parameter

from ftlab.train.flat_adamw import FlatAdamW8bit

SHAPES = [(16, 512), (512, 16), (33, 256), (5000,), (7,), (4096,)]


def _parameters() -> list[Parameter]:
    numbers = torch.Generator().manual_seed(1)
    return [Parameter(torch.randn(shape, generator=numbers)) for shape in SHAPES]


def _groups(parameters: list[Parameter]) -> list[dict[str, object]]:
    return [
        {"params": parameters[:3], "weight_decay": 0.1},
        {"params": parameters[3:], "weight_decay": 0.0},
    ]


def _step(optimizer: torch.optim.Optimizer, parameters: list[Parameter], step: int) -> None:
    numbers = torch.Generator().manual_seed(100 + step)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=numbers)
    for group in optimizer.param_groups:
        group["lr"] = 1e-2 / (step + 1)
    optimizer.step()


def test_every_bit_is_bitsandbytes() -> None:
    ours, theirs = _parameters(), _parameters()
    flat = FlatAdamW8bit(_groups(ours), lr=0.0)
    plain = AdamW8bit(_groups(theirs), lr=0.0)
    assert [len(group.parameters) for group in flat.flats] == [3]
    for step in range(4):
        _step(flat, ours, step)
        _step(plain, theirs, step)
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine, other)
        for name, value in plain.state[other].items():
            held = flat.state[mine][name]
            assert torch.equal(held, value) if torch.is_tensor(value) else held == value


def test_a_parameter_without_gradient_is_left_alone() -> None:
    ours, theirs = _parameters(), _parameters()
    flat = FlatAdamW8bit(_groups(ours), lr=1e-2)
    plain = AdamW8bit(_groups(theirs), lr=1e-2)
    for optimizer, parameters in ((flat, ours), (plain, theirs)):
        for step in range(3):
            numbers = torch.Generator().manual_seed(step)
            for i, parameter in enumerate(parameters):
                grad = torch.randn(parameter.shape, generator=numbers)
                parameter.grad = None if (step, i) == (1, 1) else grad
            optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
