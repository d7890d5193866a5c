"""lora_linear against its formulas in fp64, with every gradient."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ftlab_kernels.reference.lora_linear import lora_linear, weight_norm


class Packed:
    """A dense weight in the clothes of a quantised one."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        return self.weight.to(dtype)


def parts() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = {"x": (11, 9), "w": (7, 9), "bias": (7,), "a": (3, 9), "b": (7, 3), "m": (7,)}
    return {
        name: torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for name, shape in shapes.items()
    }


def formula(p: dict[str, Tensor], dropped: Tensor | None, dora: bool) -> Tensor:
    x = p["x"] if dropped is None else dropped
    adapted = 0.5 * (x @ p["a"].t()) @ p["b"].t()
    base = p["x"] @ p["w"].t() + p["bias"]
    if not dora:
        return base + adapted
    norm = torch.linalg.norm(p["w"] + 0.5 * p["b"] @ p["a"], dim=1).detach()
    ratio = p["m"] / norm
    return base + (ratio - 1) * (x @ p["w"].t()) + ratio * adapted


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dora", [False, True])
@pytest.mark.parametrize("dropping", [False, True])
def test_equals_the_formula_with_gradients(dropping: bool, dora: bool, packed: bool) -> None:
    p = parts()
    mask = torch.tensor([0.0, 2.0, 2.0] * 3)
    dropped = p["x"] * mask if dropping else None
    weight = Packed(p["w"].detach()) if packed else p["w"]
    ours = lora_linear(
        p["x"],
        weight,
        p["bias"],
        p["a"],
        p["b"],
        scaling=0.5,
        dropped=dropped,
        magnitude=p["m"] if dora else None,
    )
    theirs = formula(p, dropped, dora)
    torch.testing.assert_close(ours, theirs)
    names = [n for n in p if (n != "m" or dora) and (n != "w" or not packed)]
    upstream = torch.randn_like(ours)
    for name, a, b in zip(
        names,
        torch.autograd.grad(ours, [p[n] for n in names], upstream, retain_graph=True),
        torch.autograd.grad(theirs, [p[n] for n in names], upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


def test_fp32_adapter_beside_a_half_precision_weight() -> None:
    p = {name: t.detach() for name, t in parts().items()}
    half = torch.bfloat16
    lora_a = p["a"].float().requires_grad_()
    y = lora_linear(
        p["x"].to(half), p["w"].to(half), p["bias"].to(half), lora_a, p["b"].float(), scaling=0.5
    )
    assert y.dtype == half
    (grad,) = torch.autograd.grad(y.float().sum(), lora_a)
    assert grad.dtype == torch.float32


def test_weight_norm_has_no_gradient() -> None:
    p = parts()
    norm = weight_norm(p["w"], p["a"], p["b"], 0.5)
    assert not norm.requires_grad
    torch.testing.assert_close(norm, torch.linalg.norm(p["w"] + 0.5 * p["b"] @ p["a"], dim=1))
