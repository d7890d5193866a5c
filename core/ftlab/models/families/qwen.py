"""Qwen2, Qwen2.5 (biases on q, k, v) and Qwen3 (RMSNorm over each head of q and k)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftlab.models.families.common import ModelConfig, shape_of, windows_of
from ftlab.models.families.rope import rope_of
from ftlab.models.spec import DecoderSpec

DEFAULTS_2: Mapping[str, Any] = {
    "vocab_size": 151936,
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "use_sliding_window": False,
    "sliding_window": 4096,
    "max_window_layers": 28,
    "tie_word_embeddings": False,
}
DEFAULTS_3: Mapping[str, Any] = {**DEFAULTS_2, "head_dim": 128, "attention_bias": False}


def spec_2(config: ModelConfig) -> DecoderSpec:
    """Qwen2: bias on q, k and v, none on o."""
    return DecoderSpec(**_common(config), family="qwen2", qkv_bias=True)


def spec_3(config: ModelConfig) -> DecoderSpec:
    """Qwen3: q and k normalised per head before RoPE."""
    bias = bool(config["attention_bias"])
    return DecoderSpec(**_common(config), family="qwen3", qk_norm=True, qkv_bias=bias, o_bias=bias)


def _common(config: ModelConfig) -> dict[str, Any]:
    shape = shape_of(config)
    return {
        **shape,
        **_windows(config, shape["num_layers"]),
        "activation": config.activation("hidden_act"),
        "ropes": (rope_of(config, shape["head_dim"]),),
        "rope_of_layer": (0,) * shape["num_layers"],
    }


def _windows(config: ModelConfig, layers: int) -> dict[str, Any]:
    """The window applies from layer `max_window_layers` on, and only if it is switched on."""
    window = config["sliding_window"] if config["use_sliding_window"] else None
    first = layers if window is None else config["max_window_layers"]
    types = config["layer_types"] or [
        "sliding_attention" if i >= first else "full_attention" for i in range(layers)
    ]
    if window is None:
        types = ["full_attention"] * layers
    return windows_of(config, types, window)
