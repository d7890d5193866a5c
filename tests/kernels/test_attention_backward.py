"""attention_backward: every gradient by name against the formula, the same bits twice."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from attention_formula import NAMES, PACKS, bounds, pack, tensors, truth

from ftlab_kernels.attention_backward import attention_backward
from ftlab_kernels.attention_forward import attention_forward
from ftlab_kernels.attention_layout import layout

# Triton's interpreter turns one-element arrays into the ends of loops, which numpy deprecates.
SILENT = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
TOLERANCE = {torch.float32: 5e-6, torch.float16: 3e-3, torch.bfloat16: 2.5e-2}
RULES = [(None, None), (17, None), (None, 1.5), (40, 2.0)]


def check(plan: Any, heads: tuple[int, int, int], dtype: torch.dtype, **rule: Any) -> None:
    q, k, v, grad = tensors(plan, *heads, dtype)
    out, lse = attention_forward(q, k, v, plan, **rule)
    grads = attention_backward(grad, q, k, v, out, lse, plan, **rule)
    again = grads  # numpy repeats its bits
    if grad.is_cuda:
        again = attention_backward(grad, q, k, v, out, lse, plan, **rule)
    rule = {"window": None, "softcap": None, **rule}
    expected = truth(q, k, v, grad, plan, rule["scale"], rule["window"], rule["softcap"])
    for name, ours, repeat in zip(NAMES[1:], grads, again, strict=True):
        assert torch.equal(ours, repeat), name
        assert ours.dtype == dtype
        error = (ours.double() - expected[name]).abs().max()
        assert error < TOLERANCE[dtype] * expected[name].abs().max(), name


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize(("window", "softcap"), RULES)
def test_equals_the_formula(
    device: str, name: str, window: int | None, softcap: float | None
) -> None:
    rule = {"scale": 0.3, "window": window, "softcap": softcap}
    # test_attention takes shared prompts with two key heads.
    heads = (2, 1, 16) if name == "pairs" else (4, 2, 16)
    check(pack(name, device), heads, torch.float32, **rule)


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_head_dims_and_dtypes(device: str, head_dim: int, dtype: torch.dtype) -> None:
    plan = layout(bounds([65, 30]), device)
    check(plan, (2, 1, head_dim), dtype, scale=head_dim**-0.5)


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
def test_a_long_segment(device: str) -> None:
    check(layout([0, 300], device), (2, 1, 16), torch.float32, scale=0.25)


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
def test_writes_slices_of_one_buffer(device: str) -> None:
    plan = pack("mixed", device)
    q, k, v, grad = tensors(plan, 4, 2, 16, torch.float32)
    out, lse = attention_forward(q, k, v, plan, scale=0.3)
    fused = torch.full((plan.tokens, 9, 16), 7.0, device=device)
    dq, dk, dv, rest = fused.split([4, 2, 2, 1], dim=1)
    given = {"dq": dq, "dk": dk, "dv": dv}
    made = attention_backward(grad, q, k, v, out, lse, plan, scale=0.3, **given)
    alone = attention_backward(grad, q, k, v, out, lse, plan, scale=0.3)
    for name, a, b in zip(NAMES[1:], made, alone, strict=True):
        assert a is given[name]
        assert torch.equal(a, b), name
    assert (rest == 7.0).all()
