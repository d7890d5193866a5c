"""lora_group: the layout of a group, weights in one buffer, and what is refused."""

from __future__ import annotations

import pytest
import torch

from ftlab_kernels.lora_group import Adapter, Linear, LoraGroup, fold_weights
from ftlab_kernels.reference.int8 import Int8Weight


def _adapter(r: int, K: int, N: int, **more: object) -> Adapter:
    return Adapter(torch.zeros(r, K), torch.zeros(N, r), 2.0, **more)  # type: ignore[arg-type]


def test_layout() -> None:
    int8 = Int8Weight(torch.zeros(5, 8, dtype=torch.int8), torch.ones(5))
    group = LoraGroup(
        (Linear(torch.zeros(3, 8), torch.zeros(3), _adapter(4, 8, 3, dropout=0.1)), Linear(int8))
    )
    assert (group.N, group.K, group.rows) == (8, 8, (0, 3, 8))
    assert group.part(1) == slice(3, 8)
    assert (group.columns.ranks, group.columns.drops) == ((4, 0), (0.1, 0.0))
    assert group.pad == 64
    assert group.buffer_shape() == (72, 72)
    assert group.adapted
    assert not group.dora


def test_dora_keeps_the_bias_out_of_the_product() -> None:
    adapter = _adapter(4, 8, 3, magnitude=torch.ones(3))
    group = LoraGroup((Linear(torch.zeros(3, 8), torch.zeros(3), adapter),))
    assert group.dora
    assert group.columns.ones == -1


def test_different_inputs_are_refused() -> None:
    with pytest.raises(ValueError, match="do not share an input"):
        LoraGroup((Linear(torch.zeros(3, 8)), Linear(torch.zeros(3, 9))))


def test_folded_weights_are_views_of_one_buffer() -> None:
    weights = [torch.randn(3, 8), torch.randn(5, 8)]
    buffer, views = fold_weights(weights, 64)
    assert buffer.shape == (72, 72)
    for view, weight in zip(views, weights, strict=True):
        assert torch.equal(view, weight)
        assert view.untyped_storage().data_ptr() == buffer.untyped_storage().data_ptr()
