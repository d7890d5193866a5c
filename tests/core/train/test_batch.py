"""Micro-batches reach the device unchanged."""

from __future__ import annotations

import numpy as np
import torch

from ftlab.data.batches import build_eval
from ftlab.data.tokens import TokenStore
from ftlab.train.batch import to_device


def test_everything_arrives(stores: dict[str, TokenStore]) -> None:
    micro = build_eval(
        stores["dpo"], batch_size=4, micro_batch_size=4, max_length=32,
        overlong="truncate", packing=False,
    ).step(0).micro[0]  # fmt: skip
    batch = to_device(micro, "cpu")
    for name in ("input_ids", "position_ids", "labels"):
        tensor = getattr(batch.tokens, name)
        assert tensor.dtype == torch.int64
        np.testing.assert_array_equal(tensor.numpy(), getattr(micro, name))
    assert batch.tokens.cu_seqlens == tuple(micro.cu_seqlens)
    assert batch.tokens.picked is None, "on the CPU the head finds the rows itself"
    assert batch.lengths == tuple(np.diff(micro.cu_seqlens))
    assert batch.rows == tuple(micro.rows)
    assert batch.sequences_per_row == 2
    assert len(batch.tokens.cu_seqlens) == 2 * len(batch.rows) + 1
