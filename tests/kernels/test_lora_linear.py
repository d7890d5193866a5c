"""lora_linear: groups against the reference with every gradient, on the CPU and in kernels."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ftlab_kernels import dispatch
from ftlab_kernels.lora_group import Adapter, Linear, LoraGroup, fold_weights
from ftlab_kernels.lora_linear import (
    AdapterGrads,
    lora_backward,
    lora_forward,
    lora_group_linear,
    lora_linear,
    low_rank,
)  # fmt: skip
from ftlab_kernels.reference.dropout import dropout
from ftlab_kernels.reference.int8 import Int8Weight
from ftlab_kernels.reference.lora_linear import lora_linear as reference
from ftlab_kernels.reference.nf4 import quantize_nf4

T, K = 21, 64
SEEDS = (5, 6, 7)


def _group(device: str, dtype: torch.dtype, p: float, dora: bool) -> LoraGroup:
    """Three projections: NF4 with bias, dense without an adapter, int8 with bias."""
    generator = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device=device, dtype=dtype)

    def adapter(r: int, N: int) -> Adapter:
        magnitude = normal(N).abs().requires_grad_() if dora else None
        a, b = normal(r, K).requires_grad_(), normal(N, r).requires_grad_()
        return Adapter(a, b, 0.7, p, magnitude)

    values = torch.randint(-127, 128, (50, K), generator=generator, dtype=torch.int8)
    int8 = Int8Weight(values.to(device), normal(50).abs().float())
    nf4 = quantize_nf4(normal(30, K).float())
    return LoraGroup(
        (
            Linear(nf4, normal(30), adapter(8, 30)),
            Linear(normal(17, K)),
            Linear(int8, normal(50), adapter(20, 50)),
        )
    )


def _reference(x: Tensor, group: LoraGroup, p: float) -> list[Tensor]:
    outputs = []
    for target, linear in enumerate(group.linears):
        weight = linear.weight
        dense = weight if isinstance(weight, Tensor) else weight.dequantise(x.dtype)
        one = linear.adapter
        if one is None:
            outputs.append(x @ dense.t())
            continue
        dropped = dropout(x, p, SEEDS[target]) if p else None
        outputs.append(
            reference(x, dense, linear.bias, one.a, one.b, scaling=one.scaling, dropped=dropped,
                      magnitude=one.magnitude)
        )  # fmt: skip
    return outputs


def _check(device: str, dtype: torch.dtype, p: float, dora: bool, tolerance: float) -> None:
    group = _group(device, dtype, p, dora)
    x = torch.randn(T, K).to(device=device, dtype=dtype).requires_grad_()
    seeds = torch.tensor(SEEDS, device=device) if p else None
    ours, theirs = lora_group_linear(x, group, seeds), _reference(x, group, p)
    upstream = [torch.randn_like(y) for y in theirs]
    inputs = {"x": x}
    for target, linear in enumerate(group.linears):
        for name in ("a", "b", "magnitude"):
            parameter = getattr(linear.adapter, name, None)
            if parameter is not None:
                inputs[f"{name} {target}"] = parameter
    names = ["y 0", "y 1", "y 2", *(f"d {name}" for name in inputs)]
    ours = [*ours, *torch.autograd.grad(ours, [*inputs.values()], upstream)]
    theirs = [*theirs, *torch.autograd.grad(theirs, [*inputs.values()], upstream)]
    for name, a, b in zip(names, ours, theirs, strict=True):
        error = (a - b).abs().max() / b.abs().max()
        assert error < tolerance, f"{name}: {error:.2e}"


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("dora", [False, True])
def test_equals_the_reference_without_kernels(p: float, dora: bool) -> None:
    _check("cpu", torch.float64, p, dora, 1e-12)


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("dora", [False, True])
def test_equals_the_reference(p: float, dora: bool, device: str) -> None:
    _check(device, torch.float32, p, dora, 3e-6)
    _check(device, torch.float16, p, dora, 6e-3)


def _parts(device: str = "cpu") -> tuple[Tensor, Tensor, LoraGroup, Tensor]:
    weights = [torch.randn(30, K), torch.randn(17, K)]
    held, views = fold_weights(weights, 64)
    adapters = [Adapter(torch.randn(4, K), torch.randn(n, 4), 0.5, 0.2) for n in (30, 17)]
    linears = [Linear(w, None, one) for w, one in zip(views, adapters, strict=True)]
    group = LoraGroup(tuple(linears), folded=held)
    return torch.randn(T, K), torch.randn(T, 47), group, torch.tensor([3, 4])


def test_wide_buffers_and_copies_give_the_same() -> None:
    x, grad, group, seeds = _parts()
    wide_x, wide_grad = torch.full((T, K + 64), torch.nan), torch.full((T, 47 + 64), torch.nan)
    wide_x[:, :K], wide_grad[:, :47] = x, grad
    out = torch.full((T, 60), torch.nan)[:, 5:52]
    for keys in (None, seeds):
        y, saved = lora_forward(x, group, seeds=keys)
        y_wide, saved_wide = lora_forward(wide_x, group, seeds=keys, out=out)
        assert torch.equal(y, y_wide)
        assert torch.equal(saved.low_rank, low_rank(x, group, seeds=keys))
        dx, grads = lora_backward(grad, x, group, saved, seeds=keys)
        dx_wide, grads_wide = lora_backward(wide_grad, wide_x, group, saved_wide, seeds=keys)
        assert dx is not None
        assert dx_wide is not None
        assert torch.equal(dx, dx_wide)
        for one, other in zip(grads, grads_wide, strict=True):
            assert one is not None
            assert other is not None
            assert torch.equal(one.a, other.a)
            assert torch.equal(one.b, other.b)


def test_gradients_accumulate_in_fp32() -> None:
    x, grad, group, _ = _parts()
    _, saved = lora_forward(x, group)
    _, once = lora_backward(grad, x, group, saved, need_dx=False)
    total = tuple(AdapterGrads(torch.ones_like(g.a), torch.ones_like(g.b)) for g in once if g)
    none, twice = lora_backward(
        grad, x, group, saved, out_grads=total, accumulate=True, need_dx=False
    )
    assert none is None
    for one, other in zip(once, twice, strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(other.a, one.a + 1)
        torch.testing.assert_close(other.b, one.b + 1)


def test_group_without_adapters() -> None:
    weight, x, grad = torch.randn(9, K), torch.randn(T, K), torch.randn(T, 9)
    for bias in (None, torch.randn(9)):
        group = LoraGroup((Linear(weight, bias),))
        y, saved = lora_forward(x, group)
        torch.testing.assert_close(y, torch.nn.functional.linear(x, weight, bias))
        dx, grads = lora_backward(grad, x, group, saved)
        assert grads == (None,)
        torch.testing.assert_close(dx, grad @ weight)


@pytest.mark.usefixtures("interpret")
def test_public_function_takes_the_kernel(device: str) -> None:
    x, w = torch.randn(T, K, device=device), torch.randn(30, K, device=device)
    a, b = torch.randn(4, K, device=device), torch.randn(30, 4, device=device)
    dispatch.reset()
    ours = lora_linear(x, w, None, a, b, scaling=0.5, p=0.25, seed=9)
    theirs = reference(x, w, None, a, b, scaling=0.5, dropped=dropout(x, 0.25, 9))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)
    assert dispatch.report()[0]["choice"] == "kernel"


def test_trained_base_falls_to_the_reference() -> None:
    x, w = torch.randn(T, K), torch.randn(30, K, requires_grad=True)
    y = lora_linear(x, w, None, torch.randn(4, K), torch.randn(30, 4), scaling=0.5)
    (grad,) = torch.autograd.grad(y.sum(), w)
    assert grad.shape == w.shape
