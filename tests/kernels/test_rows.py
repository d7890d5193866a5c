"""Any leading shape as rows, views where they are possible."""

from __future__ import annotations

import pytest
import torch

from ftlab_kernels.rows import row_stride, rows_2d


def test_views_stay_views_and_others_are_copied() -> None:
    x = torch.arange(24.0).view(2, 3, 4)
    assert rows_2d(x).data_ptr() == x.data_ptr()
    half = torch.zeros(6, 8)[:, :4]
    assert rows_2d(half).data_ptr() == half.data_ptr()
    assert row_stride(half) == 8
    turned = rows_2d(x.transpose(1, 2))
    assert turned.is_contiguous()
    assert turned.shape == (8, 3)
    assert rows_2d(torch.ones(5)).shape == (1, 5)


def test_a_strided_last_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="last axis must be contiguous"):
        row_stride(torch.zeros(4, 8).T)
