"""dropout: a function of (seed, element), unbiased, the same in forward and backward."""

from __future__ import annotations

import pytest
import torch

from ftlab_kernels.reference.dropout import PERIOD, dropout
from ftlab_kernels.reference.philox import uniform


def test_mask_is_philox_and_scales_up() -> None:
    x = torch.randn(50, 63)
    keep = (uniform(9, x.numel()) >= 0.3).view(x.shape)
    torch.testing.assert_close(dropout(x, 0.3, 9), x * keep / 0.7)
    assert torch.equal(dropout(x, 0.3, 9), dropout(x, 0.3, 9))
    assert not torch.equal(dropout(x, 0.3, 9), dropout(x, 0.3, 10))


def test_share_is_p() -> None:
    zeroed = (dropout(torch.ones(200, 500), 0.1, 4) == 0).double().mean()
    assert abs(float(zeroed) - 0.1) < 0.005


def test_gradient_has_the_same_mask() -> None:
    x = torch.randn(20, 30, requires_grad=True)
    y = dropout(x, 0.5, 2)
    (grad,) = torch.autograd.grad(y.sum(), x)
    assert torch.equal(grad, torch.where(y == 0, 0.0, 2.0))


def test_keeps_dtype_and_does_nothing_at_zero() -> None:
    x = torch.randn(4, 4).to(torch.bfloat16)
    assert dropout(x, 0.2, 1).dtype == torch.bfloat16
    assert dropout(x, 0.0, 1) is x


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_impossible_share_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="expected 0 <= p < 1"):
        dropout(torch.ones(2), p, 0)


def test_a_part_has_the_mask_of_its_place() -> None:
    x = torch.randn(21, 30)
    whole = dropout(x, 0.3, 9)
    assert torch.equal(dropout(x[8:], 0.3, 9, first=8 * 30), whole[8:])


def test_masks_come_round_after_the_last_counter() -> None:
    x = torch.ones(10)
    around = dropout(x, 0.5, 9, first=PERIOD - 4)
    assert torch.equal(around[4:], dropout(x[:6], 0.5, 9))
    assert torch.equal(dropout(x, 0.5, 9, first=3 * PERIOD), dropout(x, 0.5, 9))
