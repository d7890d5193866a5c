"""Optimizers: known updates, weight decay by kind of parameter, and state that comes back exact."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import Parameter

from ftlab.errors import EnvironmentUnfit, FtlabError
from ftlab.train import optimizers
from ftlab.train.optimizers import load_state_tensors, set_learning_rate, state_tensors

NAMES = ["adamw", "adamw_8bit"]


def _parameters() -> dict[str, Parameter]:
    numbers = torch.Generator().manual_seed(1)
    shapes = {"a.weight": (96, 64), "b.weight": (8, 4), "c.bias": (5000,)}
    return {n: Parameter(torch.randn(shape, generator=numbers)) for n, shape in shapes.items()}


def _step(optimizer: torch.optim.Optimizer, parameters: dict[str, Parameter], step: int) -> None:
    numbers = torch.Generator().manual_seed(100 + step)
    for parameter in parameters.values():
        parameter.grad = torch.randn(parameter.shape, generator=numbers)
    set_learning_rate(optimizer, 1e-2 / (step + 1))
    optimizer.step()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("cut", [0, 1, 5])
def test_state_comes_back_exact_through_safetensors(name: str, cut: int, tmp_path: Path) -> None:
    straight, resumed = _parameters(), _parameters()
    first = optimizers.optimizer(name, straight, weight_decay=0.1)
    second = optimizers.optimizer(name, resumed, weight_decay=0.1)
    for step in range(8):
        if step == cut:
            save_file(state_tensors(second, resumed), tmp_path / "state.safetensors")
            second = optimizers.optimizer(name, resumed, weight_decay=0.1)
            load_state_tensors(second, resumed, load_file(tmp_path / "state.safetensors"))
        _step(first, straight, step)
        _step(second, resumed, step)
    for key, parameter in straight.items():
        assert torch.equal(parameter, resumed[key]), key
    ours, theirs = state_tensors(first, straight), state_tensors(second, resumed)
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_eight_bits_hold_large_tensors_in_bytes() -> None:
    parameters = _parameters()
    optimizer = optimizers.optimizer("adamw_8bit", parameters)
    _step(optimizer, parameters, 0)
    found = state_tensors(optimizer, parameters)
    assert found["a.weight|state1"].dtype == torch.uint8
    assert found["b.weight|state1"].dtype == torch.float32  # below 4096 elements
    assert found["|qmap1"].shape == (256,)


def test_decay_acts_on_matrices_only() -> None:
    parameters = _parameters()
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = optimizers.optimizer("adamw", parameters, weight_decay=0.5)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    torch.testing.assert_close(parameters["a.weight"].data, before["a.weight"] * 0.95)
    assert torch.equal(parameters["c.bias"].data, before["c.bias"])


def test_no_group_is_empty() -> None:
    parameters = {"a.weight": Parameter(torch.ones(2, 2))}
    assert len(optimizers.parameter_groups(parameters, 0.1)) == 1


def test_state_of_an_unknown_parameter_is_refused() -> None:
    parameters = _parameters()
    optimizer = optimizers.optimizer("adamw", parameters)
    with pytest.raises(FtlabError, match=r"unknown parameter 'z\.weight'"):
        load_state_tensors(optimizer, parameters, {"z.weight|exp_avg": torch.zeros(2)})


def test_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="adamw, adamw_8bit"):
        optimizers.optimizer("lion", _parameters())


def test_without_bitsandbytes_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(EnvironmentUnfit, match=r"set optim\.name: adamw"):
        optimizers.optimizer("adamw_8bit", _parameters())


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_on_a_gpu_state_comes_back_exact(name: str, tmp_path: Path) -> None:
    def made() -> dict[str, Parameter]:
        return {n: Parameter(p.detach().cuda()) for n, p in _parameters().items()}

    def step(optimizer: torch.optim.Optimizer, parameters: dict[str, Parameter], i: int) -> None:
        numbers = torch.Generator().manual_seed(100 + i)
        for parameter in parameters.values():
            parameter.grad = torch.randn(parameter.shape, generator=numbers).cuda()
        set_learning_rate(optimizer, 1e-2)
        optimizer.step()

    straight, resumed = made(), made()
    first, second = optimizers.optimizer(name, straight), optimizers.optimizer(name, resumed)
    for i in range(6):
        if i == 3:
            held = {k: t.cpu() for k, t in state_tensors(second, resumed).items()}
            save_file(held, tmp_path / "state.safetensors")
            second = optimizers.optimizer(name, resumed)
            load_state_tensors(second, resumed, load_file(tmp_path / "state.safetensors"))
        step(first, straight, i)
        step(second, resumed, i)
    for key, parameter in straight.items():
        assert torch.equal(parameter, resumed[key]), key


LORA = {"m.q.lora_A.default.weight": (3, 8), "m.q.lora_B.default.weight": (8, 3), "n.weight": (8,)}


@pytest.mark.parametrize("name", NAMES)
def test_loraplus_moves_b_by_its_ratio(name: str) -> None:
    """AdamW's first step has the length of the learning rate in every element."""
    parameters = {n: Parameter(torch.ones(shape)) for n, shape in LORA.items()}
    optimizer = optimizers.optimizer(name, parameters, lr_ratio=16.0)
    for parameter in parameters.values():
        parameter.grad = torch.full_like(parameter, 0.5)
    set_learning_rate(optimizer, 1e-3)
    optimizer.step()
    moved = {n: float((1 - p.detach()).mean()) for n, p in parameters.items()}
    assert moved == pytest.approx({n: 16e-3 if "lora_B" in n else 1e-3 for n in LORA}, rel=1e-3)


def test_loraplus_groups_are_peft_s() -> None:
    from peft.optimizers import create_loraplus_optimizer

    holder = torch.nn.Module()
    for layer in "qv":
        inner = torch.nn.Module()
        for part, shape in (("lora_A", (3, 8)), ("lora_B", (8, 3))):
            linear = torch.nn.Module()
            linear.weight = Parameter(torch.zeros(shape))
            inner.add_module(part, torch.nn.ModuleDict({"default": linear}))
        holder.add_module(layer, inner)
    theirs = create_loraplus_optimizer(holder, torch.optim.AdamW, lr=1e-4, loraplus_lr_ratio=16)
    named = dict(holder.named_parameters())
    ours = optimizers.optimizer("adamw", named, lr_ratio=16.0)
    set_learning_rate(ours, 1e-4)

    def rates(optimizer: torch.optim.Optimizer) -> dict[int, float]:
        return {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}

    assert rates(ours) == pytest.approx(rates(theirs))
    assert len(rates(ours)) == 4


def test_plain_lora_has_the_groups_it_always_had() -> None:
    parameters = {n: Parameter(torch.zeros(shape)) for n, shape in LORA.items()}
    groups = optimizers.parameter_groups(parameters, 0.1)
    assert [len(group["params"]) for group in groups] == [2, 1]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.0]
