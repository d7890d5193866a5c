"""Gemma 1, 2 and 3 (text): norm weights offset by one, scaled embeddings, GeGLU, soft-caps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftlab.models.families.common import ModelConfig, optional_number, shape_of, windows_of
from ftlab.models.families.rope import rope_of
from ftlab.models.spec import DecoderSpec, RopeSpec

DEFAULTS_1: Mapping[str, Any] = {
    "vocab_size": 256000,
    "hidden_size": 3072,
    "intermediate_size": 24576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10_000.0,
    "tie_word_embeddings": True,
    "attention_bias": False,
}
DEFAULTS_2: Mapping[str, Any] = {
    **DEFAULTS_1,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "hidden_activation": "gelu_pytorch_tanh",
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "final_logit_softcapping": 30.0,
    "attn_logit_softcapping": 50.0,
}
DEFAULTS_3: Mapping[str, Any] = {
    **DEFAULTS_2,
    "vocab_size": 262208,
    "max_position_embeddings": 131072,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
    "sliding_window_pattern": 6,
    "final_logit_softcapping": None,
    "attn_logit_softcapping": None,
}


def spec_1(config: ModelConfig) -> DecoderSpec:
    """Gemma 1. `hidden_act: gelu` of the first releases means the tanh form it was trained with."""
    common = _common(config)
    activation = config.activation("hidden_act")
    layers = common["num_layers"]
    return DecoderSpec(
        **common,
        family="gemma",
        activation="gelu_tanh" if activation == "gelu" else activation,
        ropes=(rope_of(config, common["head_dim"]),),
        rope_of_layer=(0,) * layers,
        windows=(None,) * layers,
    )


def spec_2(config: ModelConfig) -> DecoderSpec:
    """Gemma 2: sandwich norms, soft-caps, every second layer slides (the first one does)."""
    common = _common(config)
    return DecoderSpec(
        **{**common, **_scale(config), **_windows(config, common["num_layers"], pattern=2)},
        family="gemma2",
        activation=config.activation("hidden_activation"),
        sandwich_norms=True,
        attention_softcap=optional_number(config, "attn_logit_softcapping"),
        logit_softcap=optional_number(config, "final_logit_softcapping"),
        ropes=(rope_of(config, common["head_dim"]),),
        rope_of_layer=(0,) * common["num_layers"],
    )


def spec_3(config: ModelConfig, root: str = "model") -> DecoderSpec:
    """Gemma 3 text: q/k norms, five sliding layers with their own RoPE to one full layer."""
    common = _common(config)
    pattern = config.integer("sliding_window_pattern")
    windows = _windows(config, common["num_layers"], pattern=pattern)
    if config["attn_logit_softcapping"]:
        note = "attn_logit_softcapping is not applied (Gemma 3 in transformers ignores it too)"
        common["notes"] = (*common["notes"], note)
    return DecoderSpec(
        **{**common, **_scale(config), **windows},
        family="gemma3",
        root=root,
        activation=config.activation("hidden_activation"),
        sandwich_norms=True,
        qk_norm=True,
        logit_softcap=optional_number(config, "final_logit_softcapping"),
        ropes=(
            rope_of(config, common["head_dim"], layer_type="full_attention"),
            _local_rope(config, common["head_dim"]),
        ),
        rope_of_layer=tuple(0 if window is None else 1 for window in windows["windows"]),
    )


def spec_3_vision(config: ModelConfig) -> DecoderSpec:
    """The text decoder inside Gemma3ForConditionalGeneration; the vision tower is left alone."""
    text = dict(config.values.get("text_config") or {})
    text.setdefault("tie_word_embeddings", config.values.get("tie_word_embeddings", True))
    inner = ModelConfig(text, config.defaults, config.architecture)
    return spec_3(inner, root="model.language_model")


def _common(config: ModelConfig) -> dict[str, Any]:
    if config["use_bidirectional_attention"]:
        raise config.unfit("use_bidirectional_attention is on: an encoder, not a causal model")
    shape = shape_of(config)
    bias = bool(config["attention_bias"])
    return {
        **shape,
        "norm_offset": 1.0,
        "norm_weight_fp32": True,
        "embedding_scale": shape["hidden_size"] ** 0.5,
        "qkv_bias": bias,
        "o_bias": bias,
    }


def _scale(config: ModelConfig) -> dict[str, Any]:
    return {"attention_scale": config.number("query_pre_attn_scalar") ** -0.5}


def _windows(config: ModelConfig, layers: int, *, pattern: int) -> dict[str, Any]:
    """Every `pattern`-th layer is full, the ones before it slide."""
    types = config["layer_types"] or [
        "sliding_attention" if (i + 1) % pattern else "full_attention" for i in range(layers)
    ]
    return windows_of(config, types, config["sliding_window"])


def _local_rope(config: ModelConfig, head_dim: int) -> RopeSpec:
    """Sliding layers rotate without scaling, with a base of their own."""
    nested = (config["rope_parameters"] or {}).get("sliding_attention")
    if nested:
        return rope_of(config, head_dim, layer_type="sliding_attention")
    local = {"rope_theta": config.number("rope_local_base_freq")}
    values = {**config.values, "rope_parameters": local, "rope_scaling": None}
    return rope_of(ModelConfig(values, config.defaults, config.architecture), head_dim)
