"""attention_forward: interpreted against the formula, compiled ahead of time for every card."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, compile_many
from attention_formula import PACKS, bounds, pack, tensors, truth
from attention_jobs import jobs, spills_much

from ftlab_kernels.attention_forward import _forward_kernel, attention_forward
from ftlab_kernels.attention_layout import layout

# Triton's interpreter turns one-element arrays into the ends of loops, which numpy deprecates.
SILENT = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")
TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
RULES = [(None, None), (17, None), (None, 1.5), (40, 2.0)]


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize(("window", "softcap"), RULES)
def test_equals_the_formula(
    device: str, name: str, window: int | None, softcap: float | None
) -> None:
    plan = pack(name, device)
    heads = (2, 1) if name == "pairs" else (4, 2)  # as in the backward's test
    q, k, v, grad = tensors(plan, *heads, 16, torch.float32)
    out, lse = attention_forward(q, k, v, plan, scale=0.3, window=window, softcap=softcap)
    expected = truth(q, k, v, grad, plan, 0.3, window, softcap)["out"]
    torch.testing.assert_close(out.double(), expected, rtol=TOLERANCE[q.dtype], atol=2e-6)
    assert torch.isfinite(lse).all()


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("head_dim", [64, 80, 96, 128, 256])
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_head_dims_and_dtypes(device: str, head_dim: int, dtype: torch.dtype) -> None:
    plan = layout(bounds([65, 30]), device)
    q, k, v, grad = tensors(plan, 2, 1, head_dim, dtype)
    scale = head_dim**-0.5
    out, lse = attention_forward(q, k, v, plan, scale=scale)
    expected = truth(q, k, v, grad, plan, scale, None, None)["out"]
    assert out.dtype == dtype
    error = (out.double() - expected).abs().max()
    assert error < TOLERANCE[dtype] * expected.abs().max()
    assert lse.dtype == torch.float32


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
def test_writes_where_it_is_told_and_nowhere_else(device: str) -> None:
    plan = pack("mixed", device)
    q, k, v, _ = tensors(plan, 4, 2, 16, torch.float32)
    wide = torch.full((plan.tokens, 6, 20), 7.0, device=device)
    lse = torch.zeros(4, plan.tokens, device=device)
    out, given = attention_forward(q, k, v, plan, scale=0.3, out=wide[:, 1:5, :16], lse=lse)
    alone, expected = attention_forward(q, k, v, plan, scale=0.3)
    assert torch.equal(out, alone)
    assert given is lse
    assert torch.equal(lse, expected)
    untouched = wide.clone()
    untouched[:, 1:5, :16] = 7.0
    assert (untouched == 7.0).all()


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
def test_tables_longer_than_the_batch_change_no_bit(device: str) -> None:
    exact = layout(bounds([30, 70]), device)
    roomy = layout(bounds([30, 70]), device, capacity=5)
    q, k, v, _ = tensors(exact, 2, 1, 16, torch.float32)
    for a, b in zip(
        attention_forward(q, k, v, exact, scale=0.3),
        attention_forward(q, k, v, roomy, scale=0.3),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.usefixtures("interpret")
def test_what_does_not_fit_is_refused(device: str) -> None:
    plan = layout([0, 8], device)
    q, k, v, _ = tensors(plan, 4, 2, 16, torch.float32)
    with pytest.raises(ValueError, match="T must agree"):
        attention_forward(q[:7], k[:7], v[:7], plan, scale=0.3)
    with pytest.raises(ValueError, match="heads divide"):
        attention_forward(q[:, :3], k, v, plan, scale=0.3)
    with pytest.raises(ValueError, match="scale above 0"):
        attention_forward(q, k, v, plan, scale=0.0)
    with pytest.raises(ValueError, match="last stride"):
        attention_forward(q, k, v.transpose(1, 2).contiguous().transpose(1, 2), plan, scale=0.3)


@pytest.mark.aot
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_fits_every_card(capability: int) -> None:
    listed = jobs("attention_forward", _forward_kernel, capability)
    for job, compiled in zip(listed, compile_many(listed), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[capability], job
        assert not spills_much(job, compiled.spills), (job, compiled)
