"""int8 dequantisation: within half a step of the weight, exact on the grid."""

from __future__ import annotations

import torch

from ftlab_kernels.reference.int8 import Int8Weight


def test_rows_have_their_own_scale() -> None:
    weight = torch.randn(9, 63) * torch.arange(1, 10)[:, None]
    absmax = weight.abs().amax(1)
    values = torch.round(weight * 127 / absmax[:, None]).to(torch.int8)
    ours = Int8Weight(values, absmax).dequantise(torch.float32)
    assert (ours - weight).abs().div(absmax[:, None]).max() <= 0.5 / 127 + 1e-6
    torch.testing.assert_close(ours.abs().amax(1), absmax)


def test_dtype_is_the_one_asked_for() -> None:
    frozen = Int8Weight(torch.ones(2, 3, dtype=torch.int8), torch.ones(2))
    assert frozen.dequantise(torch.bfloat16).dtype == torch.bfloat16
