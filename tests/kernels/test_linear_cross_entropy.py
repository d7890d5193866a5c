"""linear_cross_entropy's kernel against fp64: losses, dh and dW, both heads, every option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aot import CAPABILITIES, Job, compile_many
from torch import Tensor

from ftlab_kernels import linear_cross_entropy as op
from ftlab_kernels import tuning
from ftlab_kernels.reference.linear_cross_entropy import linear_cross_entropy as reference

ALL: dict[str, Any] = {
    "softcap": 5.0, "logit_scale": 0.7, "label_smoothing": 0.1, "z_loss": 1e-2,
}  # fmt: skip
OPTIONS: list[dict[str, Any]] = [{}, ALL, *({name: value} for name, value in ALL.items())]
TOLERANCE = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def _example(T: int, V: int, dtype: torch.dtype, device: str) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = (
        torch.randn(T, 40, generator=generator),
        torch.randn(V, 40, generator=generator),
    )
    labels = torch.randint(V, (T,), generator=generator)
    labels[::4] = -100
    labels[1] = V - 1
    hidden, weight = hidden.to(device, dtype), (weight * 0.3).to(device, dtype)
    return hidden.requires_grad_(), weight.requires_grad_(), labels.to(device)


def _close(ours: Tensor, theirs: Tensor, dtype: torch.dtype, name: str) -> None:
    error = (ours.double() - theirs.double()).abs().max() / theirs.double().abs().max()
    assert error <= TOLERANCE[dtype], f"{name}: {error:.2e}"


def _check(options: dict[str, Any], frozen: bool, dtype: torch.dtype, V: int, device: str) -> None:
    hidden, weight, labels = _example(13, V, dtype, device)
    weight.requires_grad_(not frozen)
    inputs = [hidden] if frozen else [hidden, weight]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    ours = op.linear_cross_entropy(hidden, weight, labels, chunk=4, **options)
    theirs = reference(exact[0], weight.double() if frozen else exact[1], labels, **options)
    assert ours.dtype == torch.float32
    assert not ours[labels == -100].any()
    upstream = torch.randn_like(ours)
    grads = torch.autograd.grad(ours, inputs, upstream)
    truth = torch.autograd.grad(theirs, exact, upstream.double())
    names = ("loss", "d hidden", "d weight")
    for name, a, b in zip(names, [ours, *grads], [theirs, *truth], strict=False):
        _close(a, b, dtype, name)


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
@pytest.mark.parametrize("frozen", [False, True])
def test_equals_fp64(options: dict[str, Any], frozen: bool, device: str) -> None:
    _check(options, frozen, torch.float32, 5003, device)


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("V", [51, 4096])
def test_half_precision(dtype: torch.dtype, frozen: bool, V: int, device: str) -> None:
    if not frozen and dtype == torch.bfloat16 and device == "cpu":
        pytest.skip("triton 3.0's interpreter takes bf16 bits for whole numbers in a product")
    _check(ALL, frozen, dtype, V, device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_launchers_agree_with_each_other(dtype: torch.dtype) -> None:
    """On the CPU without kernels; padding rows give 0; in place; gradients are added to."""
    hidden, weight, labels = (t.detach() for t in _example(13, 51, dtype, "cpu"))
    scale = torch.rand(13) + 0.5
    total = torch.ones(51, 40)
    losses, lse, d_hidden = op.linear_cross_entropy_forward_backward(
        hidden, weight, labels, grad_scale=scale, d_weight=total, chunk=5, **ALL
    )
    again, lse_again = op.linear_cross_entropy_forward(hidden, weight, labels, chunk=5, **ALL)
    assert torch.equal(losses, again)
    assert torch.equal(lse, lse_again)
    assert not losses[labels == -100].any()
    assert not d_hidden[labels == -100].any()
    zeros = torch.zeros(51, 40)
    later = op.linear_cross_entropy_backward(
        scale, hidden, weight, labels, lse, d_weight=zeros, chunk=5, **ALL
    )
    assert later is not None
    assert torch.equal(later, d_hidden)
    torch.testing.assert_close(total, zeros + 1)
    _, _, unscaled = op.linear_cross_entropy_forward_backward(hidden, weight, labels, **ALL)
    _close(unscaled.float() * scale[:, None], d_hidden, dtype, "scaled later")
    place = hidden.clone()
    op.linear_cross_entropy_forward_backward(place, weight, labels, d_hidden=place, **ALL)
    assert torch.equal(place, unscaled)
    _, _, twice = op.linear_cross_entropy_forward_backward(
        hidden, weight, labels, grad_scale=torch.tensor(2.0), **ALL
    )
    _close(twice, unscaled * 2, dtype, "one scale for all")


@pytest.mark.usefixtures("interpret")
def test_no_tokens(device: str) -> None:
    hidden, weight, labels = _example(5, 51, torch.float32, device)
    losses = op.linear_cross_entropy(hidden, weight, torch.full_like(labels, -100))
    (grad,) = torch.autograd.grad(losses.sum(), hidden)
    assert not losses.any()
    assert not grad.any()


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    pointers = {"p_labels": "*i64", "p_loss": "*fp32", "p_lse": "*fp32", "p_grad": "*fp32"}
    numbers = dict.fromkeys(["s_z", "s_grad", "V"], "i32")
    floats = dict.fromkeys(["scale", "softcap", "smoothing", "z_loss", "gain"], "fp32")
    jobs = []
    for capability in CAPABILITIES:
        config = dict(tuning.lookup("linear_cross_entropy", "*", capability))
        warps, stages = config.pop("num_warps"), config.pop("num_stages")
        signature = {
            "p_z": "*bf16" if capability >= 80 else "*fp16",
            **pointers,
            **numbers,
            **floats,
        }
        flags = dict.fromkeys(["SOFTCAP", "SMOOTHING", "LOSS", "SLOPE", "GRAD"], True)
        jobs.append(
            Job(op._rows_kernel, signature, {**flags, **config}, capability, warps, stages,
                aligned=["s_z"])
        )  # fmt: skip
    assert all(one.spills <= 64 for one in compile_many(jobs))  # a scalar or two of 1,024 threads
