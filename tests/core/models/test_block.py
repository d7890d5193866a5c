"""One layer, by what it may not do: see later tokens, other sequences or beyond its window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from ftlab.models.attach import attach
from ftlab.models.block import Block
from ftlab.models.engine import Decoder
from ftlab.models.layers import Mode
from ftlab.models.rope import tables
from ftlab_kernels.reference.attention import layout

LENGTHS = [9, 4]


def decoder(**changes: Any) -> Decoder:
    torch.manual_seed(0)
    config = transformers.MistralConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, **changes,
    )  # fmt: skip
    return attach(transformers.MistralForCausalLM(config))


def influence(model: Decoder) -> torch.Tensor:
    """[T, T]: whether output row i moves when input row j does."""
    block: Block = model.blocks[0]
    total = sum(LENGTHS)
    positions = torch.cat([torch.arange(length) for length in LENGTHS])
    rotations = [tables(model.spec.ropes[0], positions, 9, torch.float32)]
    plan = layout([0, LENGTHS[0], total])
    x = torch.randn(total, 16, generator=torch.Generator().manual_seed(1))

    def forward(values: torch.Tensor) -> torch.Tensor:
        return block(values, rotations, plan, Mode(None, adapter=True))

    jacobian = torch.autograd.functional.jacobian(forward, x)
    return jacobian.abs().sum((1, 3)) > 0


@pytest.mark.parametrize("window", [None, 3])
def test_what_a_token_sees(window: int | None) -> None:
    seen = influence(decoder(sliding_window=window))
    row = torch.arange(sum(LENGTHS))
    distance = row[:, None] - row
    same = (row[:, None] < LENGTHS[0]) == (row < LENGTHS[0])
    expected = same & (distance >= 0) & (distance < (window or 99))
    assert torch.equal(seen, expected)
