"""dora: norm and ratio of the adapted weight, projection by projection."""

from __future__ import annotations

import torch

from ftlab_kernels import dora
from ftlab_kernels.lora_fold import folded
from ftlab_kernels.lora_group import Adapter, Linear, LoraGroup
from ftlab_kernels.reference.lora_linear import weight_norm


def test_norm_and_ratio_of_a_mixed_group() -> None:
    w, plain = torch.randn(2100, 12), torch.randn(5, 12)
    a, b, m = torch.randn(3, 12), torch.randn(2100, 3), torch.rand(2100)
    adapted = Linear(w, None, Adapter(a, b, 0.5, magnitude=m))
    group = LoraGroup((Linear(plain), adapted))
    weight = folded(group, torch.float32, torch.device("cpu"), None)
    norm, ratio = dora.norm_and_ratio(group, weight)
    torch.testing.assert_close(norm[5:], weight_norm(w, a, b, 0.5))
    torch.testing.assert_close(ratio[5:], m / norm[5:])
    assert (norm[:5] == 1).all()
    assert (ratio[:5] == 1).all()
