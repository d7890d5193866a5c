"""Predicted bytes against the bytes that the engine really keeps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers

from ftlab.estimate import Work
from ftlab.lora.inject import inject
from ftlab.models.attach import attach
from ftlab.models.families import spec_from_config
from ftlab.models.fused import stack as stack_module
from ftlab.planning import buffers
from ftlab.schema import AdapterSection

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

CONFIG = {
    "vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 1, "eos_token_id": 2,
    "pad_token_id": None,
}  # fmt: skip


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_what_a_forward_pass_keeps(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = transformers.CONFIG_MAPPING[kind](**CONFIG, head_dim=8)
    model = transformers.AutoModelForCausalLM.from_config(config)
    spec = spec_from_config({**config.to_dict(), "architectures": [type(model).__name__]})
    adapter = AdapterSection(r=4)
    decoder = attach(inject(model.requires_grad_(False), adapter, spec, seed=0))
    decoder.folds = True  # as on a GPU
    calls: list[Any] = []
    real = stack_module._Call.forward

    def spied(call: Any, x: torch.Tensor) -> torch.Tensor:
        calls.append(call)
        return real(call, x)

    monkeypatch.setattr(stack_module._Call, "forward", spied)
    tokens = 24
    ids = torch.arange(tokens)
    hidden = decoder.hidden(ids, ids, [0, tokens])
    work = Work(spec, adapter, "fp32", "fp32", "adamw", tokens, tokens, False, True)
    shape = buffers.shape_of(work)
    storage = calls[0].storage
    kept = sum(t.numel() * t.element_size() for t in storage._kept.values())
    assert kept == 2 * sum(buffers.item_bytes(work, shape).values())
    low = sum(t.numel() * 4 for small in storage.small for t in small.low.values())
    assert low == 2 * tokens * 4 * shape.low
    del hidden


def test_pinned_memory_is_little_more_than_what_is_put_there() -> None:
    """torch pins powers of two."""
    for count in (1, 4096, 5 << 20, (33 << 20) + 4096, 64 << 20, (1 << 32) + 12345):
        pieces = buffers.pinned_pieces(count)
        assert sum(pieces) == count
        assert max(pieces) <= buffers.PINNED_PIECE
        taken = buffers.pinned_bytes(count)
        assert count <= taken < count + 2 * buffers.PINNED_LEAST
    assert buffers.pinned_pieces(96 << 20) == [64 << 20, 32 << 20]
