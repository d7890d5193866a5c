"""torch's CPU kernels against autograd over the reference: lengths, groups of heads, prompts."""

from __future__ import annotations

import pytest
import torch

from ftlab_kernels.attention_cpu import cpu_backward, cpu_forward, takes
from ftlab_kernels.attention_layout import layout
from ftlab_kernels.reference.attention import attention

CASES = {
    "equal": ([0, 5, 10], None),
    "one": ([0, 7], None),
    "ragged": ([0, 100, 101, 108, 190], None),
    "shared prompts": ([0, 9, 12, 20, 23, 30], [-1, 0, 0, -1, 3]),
}


@pytest.mark.parametrize("kv_heads", [4, 2])
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_the_reference_s(case: str, kv_heads: int) -> None:
    bounds, prefix = CASES[case]
    plan = layout(bounds, torch.device("cpu"), prefix=prefix)
    generator = torch.Generator().manual_seed(1)
    shapes = [(bounds[-1], heads, 8) for heads in (4, kv_heads, kv_heads, 4)]
    q, k, v, grad = (torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes)
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    expected = attention(*leaves, plan, 0.3)
    grads = torch.autograd.grad(expected, leaves, grad)
    out, lse = cpu_forward(q, k, v, plan, scale=0.3)
    torch.testing.assert_close(out, expected.detach())
    found = cpu_backward(grad, q, k, v, out, lse, plan, scale=0.3)
    for name, ours, theirs in zip(("dq", "dk", "dv"), found, grads, strict=True):
        torch.testing.assert_close(ours, theirs, msg=lambda text, name=name: f"{name}: {text}")


def test_results_go_where_they_are_wanted() -> None:
    plan = layout([0, 3, 9], torch.device("cpu"))
    q, k, v, grad = torch.randn(4, 9, 2, 8)
    out, lse = cpu_forward(q, k, v, plan, scale=1.0)
    to, sums = torch.empty_like(q), torch.empty_like(lse)
    assert cpu_forward(q, k, v, plan, scale=1.0, out=to, lse=sums)[0] is to
    assert torch.equal(sums, lse)
    wide = torch.zeros(9, 6, 8)
    places = {name: wide[:, 2 * i : 2 * i + 2] for i, name in enumerate(("dq", "dk", "dv"))}
    cpu_backward(grad, q, k, v, out, lse, plan, scale=1.0, **places)
    assert torch.equal(wide[:, :2], cpu_backward(grad, q, k, v, out, lse, plan, scale=1.0)[0])


def test_what_it_leaves_to_the_reference() -> None:
    plan = layout([0, 3, 9], torch.device("cpu"))
    assert takes(plan, torch.float32, None, None)
    assert takes(plan, torch.float32, 6, None)
    assert not takes(plan, torch.float32, 5, None)
    assert not takes(plan, torch.float32, None, 30.0)
    assert not takes(plan, torch.float16, None, None)
