"""Llama 1 to 3.x and what shares its class: SmolLM 1 and 2, TinyLlama, Yi, DeepSeek-LLM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftlab.models.families.common import ModelConfig, shape_of
from ftlab.models.families.rope import rope_of
from ftlab.models.spec import DecoderSpec

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": False,
    "attention_bias": False,
    "mlp_bias": False,
}


def spec(config: ModelConfig) -> DecoderSpec:
    """Pre-norm, SwiGLU, grouped-query attention; biases where the config asks for them."""
    shape = shape_of(config)
    layers = shape["num_layers"]
    return DecoderSpec(
        **shape,
        family="llama",
        activation=config.activation("hidden_act"),
        qkv_bias=bool(config["attention_bias"]),
        o_bias=bool(config["attention_bias"]),
        mlp_bias=bool(config["mlp_bias"]),
        ropes=(rope_of(config, shape["head_dim"]),),
        rope_of_layer=(0,) * layers,
        windows=(None,) * layers,
    )
