"""Families: configs of both dialects read alike, defaults of transformers, refusals by name."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
import transformers

from ftlab.errors import ConfigError, EnvironmentUnfit
from ftlab.models.families import (
    FAMILIES,
    Family,
    dialect_of,
    find,
    spec_from_config,
    with_rope_scaling,
)

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 128,
    "pad_token_id": 0,
}
VISION = {
    "model_type": "siglip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def config_of(family: Family, **changes: Any) -> Any:
    values = {**SMALL, **changes}
    if family.model_type == "gemma3":
        text = {**values, "model_type": "gemma3_text"}
        values = {"text_config": text, "vision_config": VISION}
    return transformers.CONFIG_MAPPING[family.model_type](**values)


def by_type(model_type: str) -> Family:
    return next(family for family in FAMILIES if family.model_type == model_type)


def llama(**changes: Any) -> dict[str, Any]:
    return {"architectures": ["LlamaForCausalLM"], **SMALL, **changes}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_parameters_equal_those_of_transformers(family: Family) -> None:
    with torch.device("meta"):
        model = transformers.AutoModelForCausalLM.from_config(config_of(family))
    spec = spec_from_config(model.config.to_dict() | {"architectures": [type(model).__name__]})
    assert type(model).__name__ == family.architecture
    decoder = {n: p for n, p in model.named_parameters() if n.startswith((spec.root, "lm_head"))}
    text = {n: p for n, p in decoder.items() if "vision" not in n and "multi_modal" not in n}
    assert spec.parameters() == sum(p.numel() for p in text.values())
    for name, (out, into, count) in spec.linear_shapes().items():
        found = [tuple(p.shape) for n, p in text.items() if n.endswith(f".{name}.weight")]
        assert found == [(out, into)] * count


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model_type)
def test_silent_config_takes_the_defaults_of_transformers(family: Family) -> None:
    """A config.json that names only its class means what transformers takes it for."""
    full = transformers.CONFIG_MAPPING[family.model_type]().to_dict()
    full.pop("architectures", None)
    silent = {"model_type": family.model_type, "text_config": {}}
    assert spec_from_config(silent) == spec_from_config(full)


def test_smollm2_has_its_published_size() -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
        "max_position_embeddings": 8192,
        "rope_theta": 100000,
    }
    spec = spec_from_config(config)
    assert spec.parameters() == 134_515_008
    assert spec.ropes[0].theta == 100_000
    assert spec.max_positions == 8192


def test_published_shapes_of_large_models() -> None:
    llama3 = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
    }
    assert spec_from_config(llama3).parameters() == 8_030_261_248
    gemma2 = {"architectures": ["Gemma2ForCausalLM"]}
    assert spec_from_config(gemma2).parameters() == 2_614_341_888
    phi = {"architectures": ["Phi3ForCausalLM"]}
    assert spec_from_config(phi).parameters() == 3_821_079_552


def test_both_dialects_of_rope_are_one() -> None:
    scaling = {"rope_type": "linear", "factor": 4.0}
    old = llama(rope_theta=5e5, rope_scaling=scaling)
    new = llama(rope_parameters={**scaling, "rope_theta": 5e5})
    legacy = llama(rope_theta=5e5, rope_scaling={"type": "linear", "factor": 4.0})
    assert spec_from_config(old) == spec_from_config(new) == spec_from_config(legacy)
    assert spec_from_config(old).ropes[0].factor == 4.0


def test_gemma3_dialects_keep_two_ropes_apart() -> None:
    base = {"architectures": ["Gemma3ForCausalLM"], "num_hidden_layers": 6}
    linear = {"rope_type": "linear", "factor": 8.0}
    old = {**base, "rope_theta": 1e6, "rope_local_base_freq": 2e4, "rope_scaling": linear}
    new = {
        **base,
        "rope_parameters": {
            "full_attention": {**linear, "rope_theta": 1e6},
            "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
        },
    }
    spec = spec_from_config(old)
    assert spec == spec_from_config(new)
    assert [rope.theta for rope in spec.ropes] == [1e6, 2e4]
    assert [rope.kind for rope in spec.ropes] == ["linear", "default"]
    assert spec.rope_of_layer == (1, 1, 1, 1, 1, 0)
    assert spec.windows == (4096,) * 5 + (None,)


def test_dialect_of_version_4_has_no_rope_parameters() -> None:
    new = llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 5e5})
    old = dialect_of(new, 4)
    assert "rope_parameters" not in old
    assert old["rope_theta"] == 5e5
    assert old["rope_scaling"] == {"rope_type": "linear", "factor": 4.0}
    assert dialect_of(new, 5) == new
    plain = dialect_of(llama(rope_parameters={"rope_type": "default", "rope_theta": 7.0}), 4)
    assert plain["rope_scaling"] is None
    assert spec_from_config(plain).ropes[0].theta == 7.0


def test_dialect_of_version_4_for_nested_and_phi_configs() -> None:
    parameters = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 3e4},
    }
    text = {"num_hidden_layers": 6, "rope_parameters": parameters}
    new = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    old = dialect_of(new, 4)
    assert old["text_config"]["rope_local_base_freq"] == 3e4
    assert spec_from_config(old) == spec_from_config(new)
    factors = {"short_factor": [1.0] * 8, "long_factor": [2.0] * 8}
    phi = {
        "model_type": "phi3",
        **SMALL,
        "rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 2.0, **factors},
    }
    assert dialect_of(phi, 4)["rope_scaling"] == {**factors, "type": "longrope"}


@pytest.mark.parametrize(
    ("scaling", "kind"),
    [(None, "default"), ({"rope_type": "dynamic", "factor": 2.0}, "dynamic"), ("auto", "linear")],
)
@pytest.mark.parametrize("new_dialect", [False, True])
def test_rope_scaling_of_a_run_replaces_the_models(
    new_dialect: bool, scaling: Any, kind: str
) -> None:
    own = {"rope_type": "linear", "factor": 4.0}
    config = llama(rope_theta=3e4, rope_scaling=own)
    if new_dialect:
        config = llama(rope_parameters={**own, "rope_theta": 3e4})
    rope = spec_from_config(config, scaling).ropes[0]
    assert (rope.kind, rope.theta) == (kind, 3e4)
    assert spec_from_config(with_rope_scaling(config, scaling)).ropes[0] == rope


def test_rope_scaling_reaches_nested_configs() -> None:
    text = {"num_hidden_layers": 6, "rope_parameters": {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }}  # fmt: skip
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "text_config": text}
    spec = spec_from_config(config, None)
    assert [rope.kind for rope in spec.ropes] == ["default", "default"]
    assert [rope.theta for rope in spec.ropes] == [1e6, 1e4]
    assert spec.root == "model.language_model"


@pytest.mark.parametrize("scaling", ["linear", {"rope_type": "spiral"}, {"rope_type": "yarn"}])
def test_senseless_rope_scaling_is_a_config_error(scaling: Any) -> None:
    with pytest.raises(ConfigError, match=r"model\.rope_scaling"):
        spec_from_config(llama(), scaling)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu', supported are silu"),
        ({"hidden_size": "64"}, "hidden_size is '64', expected a positive whole number"),
        ({"num_key_value_heads": 3}, "4 attention heads cannot share 3"),
        ({"rms_norm_eps": None}, "rms_norm_eps is None, expected a number"),
        ({"rope_scaling": {"rope_type": "mrope"}}, "'mrope' is unknown"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 2}}, "needs low_freq_factor"),
        ({"rope_scaling": "linear"}, "expected a mapping"),
        ({"head_dim": 15}, "even number of features, got 15"),
    ],
)
def test_unusable_values_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentUnfit, match=message):
        spec_from_config(llama(**changes))


def test_longrope_needs_a_factor_for_every_pair() -> None:
    scaling = {"type": "su", "short_factor": [1.0] * 8, "long_factor": [1.0] * 7}
    config = {"model_type": "phi3", **SMALL, "rope_scaling": scaling}
    with pytest.raises(EnvironmentUnfit, match="long_factor must be a list of 8 numbers"):
        spec_from_config(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layer_types": ["full_attention"]}, "names 1 layers, the model has 4"),
        ({"layer_types": ["chunked_attention"] * 4}, "layer_types has chunked_attention"),
        ({"sliding_window": None}, "sliding_window is None"),
        ({"use_bidirectional_attention": True}, "not a causal model"),
    ],
)
def test_unusable_layers_are_named(config: dict[str, Any], message: str) -> None:
    with pytest.raises(EnvironmentUnfit, match=message):
        spec_from_config({"model_type": "gemma2", **SMALL, **config})


def test_no_rope_layers_must_cover_every_layer() -> None:
    with pytest.raises(EnvironmentUnfit, match="no_rope_layers names 2 layers"):
        spec_from_config({"model_type": "smollm3", **SMALL, "no_rope_layers": [1, 0]})


@pytest.mark.parametrize(
    "config",
    [
        {"architectures": ["MambaForCausalLM"], "model_type": "mamba"},
        {"architectures": ["LlamaForSequenceClassification"], "model_type": "llama"},
        {"model_type": "mamba"},
        {},
    ],
)
def test_unknown_architecture_names_the_supported_ones(config: dict[str, Any]) -> None:
    with pytest.raises(EnvironmentUnfit, match=r"LlamaForCausalLM.*SmolLM3ForCausalLM"):
        find(config)


def test_what_training_leaves_out_is_noted() -> None:
    assert spec_from_config(llama(attention_dropout=0.1)).notes == (
        "attention_dropout 0.1 of the model's config is not applied",
    )
    gemma = {"architectures": ["Gemma3ForCausalLM"], "attn_logit_softcapping": 50.0}
    assert any("attn_logit_softcapping" in note for note in spec_from_config(gemma).notes)


def test_gelu_of_the_first_gemma_means_tanh() -> None:
    gemma = {"architectures": ["GemmaForCausalLM"], "hidden_act": "gelu"}
    assert spec_from_config(gemma).activation == "gelu_tanh"


def test_needs_no_torch() -> None:
    code = "import sys, ftlab.models.families; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_table_is_complete() -> None:
    assert by_type("llama").architecture == "LlamaForCausalLM"
    assert len({family.architecture for family in FAMILIES}) == len(FAMILIES) == 10
    assert all(family.models for family in FAMILIES)
