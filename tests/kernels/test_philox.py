"""philox inside kernels draws the reference's bits, at counters beyond 2^31 too."""

import pytest
import torch
import triton
import triton.language as tl

from ftlab_kernels.philox import keep_mask
from ftlab_kernels.reference.philox import mix, uniform


@triton.jit
def _kernel(p_out, p_seed, start, p, BLOCK: tl.constexpr):
    o = tl.arange(0, BLOCK)
    kept = keep_mask(tl.load(p_seed), start + o.to(tl.int64), p)
    tl.store(p_out + o, kept.to(tl.int32))


@pytest.mark.usefixtures("interpret")
@pytest.mark.parametrize("start", [0, 12345, (1 << 31) - 100, (1 << 32) - 256])
def test_equals_the_reference(start: int, device: str) -> None:
    for seed in (5, mix(3407, 17, 0, 9)):
        out = torch.empty(256, dtype=torch.int32, device=device)
        key = torch.tensor([seed], dtype=torch.int64, device=device)
        _kernel[(1,)](out, key, start, 0.3, BLOCK=256)
        expected = uniform(seed, 256, start=start) >= 0.3
        assert torch.equal(out.bool().cpu(), expected)
