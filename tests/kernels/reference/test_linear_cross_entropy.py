"""linear_cross_entropy against torch's on full logits: losses and gradients, both kinds of head."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ftlab_kernels.reference.linear_cross_entropy import linear_cross_entropy

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "softcap": {"softcap": 2.0},
    "smoothed": {"label_smoothing": 0.1},
    "scaled": {"logit_scale": 0.6},
    "all": {"softcap": 2.0, "label_smoothing": 0.2, "logit_scale": 1.7},
}


def plain(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    label_smoothing: float = 0.0,
) -> Tensor:
    logits = hidden @ weight.t() * logit_scale
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, labels, reduction="none", label_smoothing=label_smoothing)


def example(tokens: int = 63, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, 20, dtype=torch.float64, generator=generator)
    weight = torch.randn(51, 20, dtype=torch.float64, generator=generator)
    labels = torch.randint(51, (tokens,), generator=generator)
    labels[torch.rand(tokens, generator=generator) < 0.4] = -100
    return hidden.to(dtype).requires_grad_(), weight.to(dtype).requires_grad_(), labels


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_equals_torch_with_gradients(variant: str, frozen: bool, chunk: int) -> None:
    hidden, weight, labels = example()
    weight.requires_grad_(not frozen)
    ours = linear_cross_entropy(hidden, weight, labels, chunk=chunk, **VARIANTS[variant])
    theirs = plain(hidden, weight, labels, **VARIANTS[variant])
    torch.testing.assert_close(ours, theirs)
    assert not ours[labels == -100].any()
    upstream = torch.randn_like(ours)
    inputs = (hidden,) if frozen else (hidden, weight)
    for a, b in zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(theirs, inputs, upstream),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("frozen", [False, True])
def test_half_precision_is_near_the_truth(dtype: torch.dtype, frozen: bool) -> None:
    hidden, weight, labels = example(dtype=dtype)
    weight.requires_grad_(not frozen)
    losses = linear_cross_entropy(hidden, weight, labels)
    assert losses.dtype == torch.float32
    exact_hidden = hidden.detach().double().requires_grad_()
    truth = plain(exact_hidden, weight.detach().double(), labels)
    torch.testing.assert_close(losses.double(), truth, rtol=2**-7, atol=2**-5)
    (ours,) = torch.autograd.grad(losses.sum(), hidden)
    (theirs,) = torch.autograd.grad(truth.sum(), exact_hidden)
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.double(), theirs, rtol=2**-5, atol=2**-4)


def test_fp32_head_of_a_half_precision_pass_gets_fp32_gradients() -> None:
    hidden, weight, labels = example(dtype=torch.bfloat16)
    master = weight.detach().float().requires_grad_()
    losses = linear_cross_entropy(hidden, master, labels, chunk=8)
    (grad,) = torch.autograd.grad(losses.sum(), master)
    exact = weight.detach().double().requires_grad_()
    truth = plain(hidden.detach().double(), exact, labels)
    (theirs,) = torch.autograd.grad(truth.sum(), exact)
    assert grad.dtype == torch.float32
    torch.testing.assert_close(grad.double(), theirs, rtol=2**-5, atol=2**-4)


def test_nothing_trained_is_zero_with_gradients() -> None:
    hidden, weight, labels = example()
    losses = linear_cross_entropy(hidden, weight, torch.full_like(labels, -100))
    assert not losses.any()
    assert all(not g.any() for g in torch.autograd.grad(losses.sum(), (hidden, weight)))


def test_no_gradient_is_computed_where_none_is_wanted() -> None:
    hidden, weight, labels = example()
    with torch.no_grad():
        losses = linear_cross_entropy(hidden, weight, labels)
    assert not losses.requires_grad
    losses = linear_cross_entropy(hidden.detach(), weight, labels)
    (grad,) = torch.autograd.grad(losses.sum(), weight)
    assert grad.shape == weight.shape
