"""SmolLM3: Llama in which every fourth layer has no positions at all (NoPE)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftlab.models.families.common import ModelConfig, shape_of, windows_of
from ftlab.models.families.rope import rope_of
from ftlab.models.spec import DecoderSpec

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 128256,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 2_000_000.0,
    "use_sliding_window": False,
    "sliding_window": None,
    "no_rope_layer_interval": 4,
    "attention_bias": False,
    "mlp_bias": False,
    "tie_word_embeddings": True,
}


def spec(config: ModelConfig) -> DecoderSpec:
    """`no_rope_layers` holds 1 where a layer rotates and 0 where it does not."""
    shape = shape_of(config)
    layers = shape["num_layers"]
    rotated = _rotated(config, layers)
    window = config["sliding_window"] if config["use_sliding_window"] else None
    types = config["layer_types"] or [
        "full_attention" if window is None or has_rope else "sliding_attention"
        for has_rope in rotated
    ]
    return DecoderSpec(
        **shape,
        **windows_of(config, types, config["sliding_window"]),
        family="smollm3",
        activation=config.activation("hidden_act"),
        qkv_bias=bool(config["attention_bias"]),
        o_bias=bool(config["attention_bias"]),
        mlp_bias=bool(config["mlp_bias"]),
        ropes=(rope_of(config, shape["head_dim"]),),
        rope_of_layer=tuple(0 if has_rope else None for has_rope in rotated),
    )


def _rotated(config: ModelConfig, layers: int) -> list[bool]:
    interval = config.integer("no_rope_layer_interval")
    marks = config["no_rope_layers"]
    if not marks:
        marks = [(i + 1) % interval != 0 for i in range(layers)]
    if len(marks) != layers:
        raise config.unfit(f"no_rope_layers names {len(marks)} layers, the model has {layers}")
    return [bool(mark) for mark in marks]
