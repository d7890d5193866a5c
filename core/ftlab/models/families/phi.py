"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: fused projections, LongRoPE, partial rotation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftlab.models.families.common import ModelConfig, shape_of, windows_of
from ftlab.models.families.rope import rope_of
from ftlab.models.spec import DecoderSpec

DEFAULTS: Mapping[str, Any] = {
    "vocab_size": 32064,
    "hidden_size": 3072,
    "intermediate_size": 8192,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_act": "silu",
    "max_position_embeddings": 4096,
    "original_max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10_000.0,
    "partial_rotary_factor": 1.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
}


def spec(config: ModelConfig) -> DecoderSpec:
    """One qkv_proj and one gate_up_proj; a RoPE type "yarn" is the old name of "longrope"."""
    config = ModelConfig(_renamed(config.values), config.defaults, config.architecture)
    shape = shape_of(config)
    layers, window = shape["num_layers"], config["sliding_window"]
    kind = "full_attention" if window is None else "sliding_attention"
    return DecoderSpec(
        **shape,
        **windows_of(config, (kind,) * layers, window),
        family="phi3",
        activation=config.activation("hidden_act"),
        fused_qkv=True,
        fused_gate_up=True,
        ropes=(rope_of(config, shape["head_dim"]),),
        rope_of_layer=(0,) * layers,
    )


def _renamed(values: Mapping[str, Any]) -> dict[str, Any]:
    renamed = dict(values)
    for key in ("rope_scaling", "rope_parameters"):
        scaling = values.get(key)
        if isinstance(scaling, Mapping):
            kind = scaling.get("rope_type") or scaling.get("type")
            renamed[key] = {**scaling, "rope_type": "longrope" if kind == "yarn" else kind}
    return renamed
