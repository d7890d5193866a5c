"""block_attention against torch's attention where they compute the same; repeatable bits."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from ftlab_kernels.reference.block_attention import block_attention


def test_equals_torch_and_repeats_bit_for_bit() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, n, 300, 12, generator=generator).requires_grad_() for n in (4, 2, 2))
    keys, values = (x.repeat_interleave(2, dim=1) for x in (k, v))
    theirs = F.scaled_dot_product_attention(q, keys, values, is_causal=True, scale=0.3)
    upstream = torch.randn(theirs.shape, generator=generator)
    runs = []
    for _ in range(2):
        ours = block_attention(q, k, v, 0.3, None, None)
        runs.append((ours, *torch.autograd.grad(ours, (q, k, v), upstream)))
    expected = (theirs, *torch.autograd.grad(theirs, (q, k, v), upstream))
    for first, second, want in zip(*runs, expected, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, want, rtol=1e-4, atol=1e-5)
