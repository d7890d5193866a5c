"""What attention's kernels share: tanh saturates, and only visible pairs are seen."""

import pytest
import torch
import triton
import triton.language as tl

from ftlab_kernels.attention_tile import tanh, visible


@triton.jit
def _tanh_kernel(p_x, p_y, SIZE: tl.constexpr):
    o_n = tl.arange(0, SIZE)
    tl.store(p_y + o_n, tanh(tl.load(p_x + o_n)))


@triton.jit
def _visible_kernel(p_y, i_end, SIZE: tl.constexpr, WINDOW: tl.constexpr):
    o_n = tl.arange(0, SIZE)
    seen = visible(o_n[:, None], o_n[None, :], o_n[None, :], i_end, WINDOW)
    tl.store(p_y + o_n[:, None] * SIZE + o_n[None, :], seen.to(tl.int32))


@pytest.mark.usefixtures("interpret")
@pytest.mark.filterwarnings("ignore:overflow encountered in exp2")  # saturation is what is shown
def test_tanh(device: str) -> None:
    x = torch.tensor([-1e4, -20.0, -1.0, -1e-3, 0.0, 1e-3, 1.0, 1e4], device=device)
    y = torch.empty_like(x)
    _tanh_kernel[(1,)](x, y, SIZE=8)
    torch.testing.assert_close(y, x.tanh(), rtol=1e-6, atol=2e-7)


@pytest.mark.usefixtures("interpret")
@pytest.mark.parametrize("window", [0, 1, 3])
def test_visible(device: str, window: int) -> None:
    y = torch.empty(16, 16, dtype=torch.int32, device=device)
    _visible_kernel[(1,)](y, 11, SIZE=16, WINDOW=window)
    place = torch.arange(16, device=device)
    distance = place[:, None] - place
    expected = (distance >= 0) & (place < 11)
    if window:
        expected &= distance < window
    assert torch.equal(y.bool(), expected)
