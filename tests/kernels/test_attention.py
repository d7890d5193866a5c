"""The public attention: kernel and reference agree with gradients, one choice for each batch."""

from __future__ import annotations

import pytest
import torch
from attention_formula import NAMES, PACKS, bounds, pack, tensors, truth

from ftlab_kernels import dispatch
from ftlab_kernels.attention import attention, layout, operators

# Triton's interpreter turns one-element arrays into the ends of loops, which numpy deprecates.
SILENT = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
RULES = [(None, None), (40, 2.0)]


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize(("window", "softcap"), RULES)
def test_kernel_with_gradients(
    device: str, name: str, window: int | None, softcap: float | None
) -> None:
    _check(device, name, window, softcap, "require")


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize(("window", "softcap"), RULES)
def test_reference_with_gradients(name: str, window: int | None, softcap: float | None) -> None:
    _check("cpu", name, window, softcap, "off")


def _check(
    device: str, name: str, window: int | None, softcap: float | None, mode: dispatch.Mode
) -> None:
    plan = pack(name, device)
    lengths, prefix = PACKS[name]
    q, k, v, grad = tensors(plan, 4, 2, 16, torch.float32)
    inputs = [x.detach().requires_grad_() for x in (q, k, v)]
    with dispatch.using(mode):
        out = attention(*inputs, bounds(lengths), 0.3, window, softcap, prefix)
        grads = torch.autograd.grad(out, inputs, grad)
    expected = truth(q, k, v, grad, plan, 0.3, window, softcap)
    for key, ours in zip(NAMES, (out, *grads), strict=True):
        torch.testing.assert_close(
            ours.double(),
            expected[key],
            rtol=1e-5,
            atol=5e-6,
            msg=lambda text, k=key: f"{k}: {text}",
        )


def test_the_reference_pair_takes_the_launchers_arguments() -> None:
    plan = pack("pairs")
    q, k, v, grad = tensors(plan, 4, 2, 16, torch.float32)
    with dispatch.using("off"):
        ops = operators(plan, 4, 2, 16, torch.float32)
    assert (ops.name, ops.reason) == ("reference", "kernels are switched off")
    wide = torch.zeros(plan.tokens, 8, 16)
    out, lse = ops.forward(q, k, v, plan, scale=0.3, out=wide[:, :4])
    dq, dk, dv = ops.backward(grad, q, k, v, out, lse, plan, scale=0.3, dv=wide[:, 4:6])
    expected = truth(q, k, v, grad, plan, 0.3, None, None)
    for name, ours in zip(NAMES, (out, dq, dk, dv), strict=True):
        torch.testing.assert_close(ours.double(), expected[name], rtol=1e-5, atol=5e-6)
    assert dv.data_ptr() == wide[:, 4:6].data_ptr()


def test_a_batch_chooses_once() -> None:
    plan = layout([0, 8])
    dispatch.reset()
    first = operators(plan, 4, 2, 16, torch.float32)
    assert operators(plan, 4, 2, 16, torch.float32) is first
    assert operators(plan, 4, 2, 16, torch.float32, window=3) is not first
    assert sum(line["count"] for line in dispatch.report()) == 2


def test_wider_heads_go_to_the_reference() -> None:
    ops = operators(layout([0, 8]), 1, 1, 320, torch.float32)
    assert ops.name == "reference"


def test_gradients_that_are_expanded_are_taken() -> None:
    q, k, v = (torch.randn(9, 2, 16, requires_grad=True) for _ in range(3))
    attention(q, k, v, [0, 4, 9], 0.25).sum().backward()
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()
