"""Mistral 7B and what shares its class (Mistral Nemo, Zephyr): Llama with one sliding window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftlab.models.families.common import ModelConfig, shape_of, windows_of
from ftlab.models.families.rope import rope_of
from ftlab.models.spec import DecoderSpec

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "sliding_window": 4096,
    "tie_word_embeddings": False,
}


def spec(config: ModelConfig) -> DecoderSpec:
    """Every layer sees `sliding_window` tokens, or all where that is null."""
    shape = shape_of(config)
    layers, window = shape["num_layers"], config["sliding_window"]
    kind = "full_attention" if window is None else "sliding_attention"
    return DecoderSpec(
        **shape,
        **windows_of(config, (kind,) * layers, window),
        family="mistral",
        activation=config.activation("hidden_act"),
        ropes=(rope_of(config, shape["head_dim"]),),
        rope_of_layer=(0,) * layers,
    )
