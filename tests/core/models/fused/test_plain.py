"""The launchers' twins against autograd over the references, in fp64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ftlab.models.fused import plain
from ftlab_kernels.reference.geglu import geglu
from ftlab_kernels.reference.rms_norm import rms_norm
from ftlab_kernels.reference.rope import rope
from ftlab_kernels.reference.swiglu import swiglu


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("weight_fp32", [False, True])
def test_the_norm_and_its_residual(weight_fp32: bool) -> None:
    x, residual, weight, grad, onward = (draw(5, 12, seed=i) for i in range(5))
    weight = weight[0]
    leaves = [t.clone().requires_grad_() for t in (x, residual, weight)]
    h = leaves[0] + leaves[1]
    y = rms_norm(h, leaves[2], 1e-5, 1.0, weight_fp32=weight_fp32)
    expected = torch.autograd.grad([y, h], leaves, [grad, onward])
    made, stream, rstd = plain.rms_norm_forward(
        x, weight, eps=1e-5, offset=1.0, weight_fp32=weight_fp32, residual=residual,
        residual_out=torch.empty_like(x),
    )  # fmt: skip
    torch.testing.assert_close(made, y)
    dx, d_weight = plain.rms_norm_backward(
        grad, stream, weight, rstd, offset=1.0, weight_fp32=weight_fp32, grad_residual=onward,
        need_weight_grad=True,
    )  # fmt: skip
    torch.testing.assert_close(dx, expected[0])
    torch.testing.assert_close(d_weight, expected[2])


def test_the_rotation_and_back() -> None:
    q, k = draw(7, 3, 10), draw(7, 1, 10, seed=1)
    angle = draw(7, 4, seed=2)
    expected = rope(q, k, angle.cos(), angle.sin())
    turned = q.clone(), k.clone()
    plain.rope_(*turned, angle.cos(), angle.sin())
    torch.testing.assert_close(turned, expected)
    plain.rope_(*turned, angle.cos(), angle.sin(), inverse=True)
    torch.testing.assert_close(turned, (q, k))


@pytest.mark.parametrize("kind", ["swiglu", "tanh", "none"])
def test_activations_in_place(kind: str) -> None:
    gate, up, grad = (draw(6, 9, seed=i) for i in range(3))
    leaves = [gate.clone().requires_grad_(), up.clone().requires_grad_()]
    y = swiglu(*leaves) if kind == "swiglu" else geglu(*leaves, kind)  # type: ignore[arg-type]
    expected = torch.autograd.grad(y, leaves, grad)
    if kind == "swiglu":
        plain.swiglu_backward(grad, gate, up, d_gate=gate, d_up=up, y=grad)
    else:
        plain.geglu_backward(
            grad,
            gate,
            up,
            approximate=kind,
            d_gate=gate,
            d_up=up,
            y=grad,  # type: ignore[arg-type]
        )
    torch.testing.assert_close((gate, up), expected)
    torch.testing.assert_close(grad, y.detach())
