"""llama.cpp's names and numbers; what its graphs would compute otherwise is refused in words."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit
from ftlab.export.gguf.architecture import describe
from ftlab.models.families import FAMILIES, spec_from_config

LLAMA = {"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "num_attention_heads": 4,
         "num_hidden_layers": 2, "intermediate_size": 96, "num_key_value_heads": 2}  # fmt: skip


def test_the_numbers_of_a_llama() -> None:
    found = describe(spec_from_config(LLAMA))
    assert found.name == "llama"
    assert found.neighbours
    assert found.notes == ()
    assert found.fields == {
        "context_length": 2048, "embedding_length": 64, "block_count": 2,
        "feed_forward_length": 96, "attention.head_count": 4, "attention.head_count_kv": 2,
        "attention.key_length": 16, "attention.value_length": 16,
        "attention.layer_norm_rms_epsilon": 1e-6, "rope.dimension_count": 16,
        "rope.freq_base": 10_000.0,
    }  # fmt: skip


def test_every_family_has_a_name() -> None:
    """With the sizes its config.json takes by default, but the attention Gemma 3 27B has."""
    names = {}
    for family in FAMILIES:
        config: dict[str, Any] = {"architectures": [family.architecture]}
        if family.architecture == "Gemma3ForConditionalGeneration":
            config["text_config"] = {"num_hidden_layers": 6}
        names[family.architecture] = describe(spec_from_config(config)).name
    assert names == {
        "LlamaForCausalLM": "llama", "MistralForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2",
        "Qwen3ForCausalLM": "qwen3", "GemmaForCausalLM": "gemma", "Gemma2ForCausalLM": "gemma2",
        "Gemma3ForCausalLM": "gemma3", "Gemma3ForConditionalGeneration": "gemma3",
        "Phi3ForCausalLM": "phi3", "SmolLM3ForCausalLM": "smollm3",
    }  # fmt: skip


def test_the_largest_gemmas_scale_otherwise() -> None:
    gemma = {"architectures": ["Gemma2ForCausalLM"], "num_hidden_layers": 46, "head_dim": 128,
             "hidden_size": 4608, "num_attention_heads": 32}  # fmt: skip
    assert describe(spec_from_config({**gemma, "query_pre_attn_scalar": 144})).name == "gemma2"
    with pytest.raises(EnvironmentUnfit, match="attention is scaled"):
        describe(spec_from_config({**gemma, "query_pre_attn_scalar": 128}))


def test_a_window_that_the_graph_lacks_bounds_the_context() -> None:
    mistral = {**LLAMA, "architectures": ["MistralForCausalLM"], "sliding_window": 4096}
    found = describe(spec_from_config({**mistral, "max_position_embeddings": 32768}))
    assert found.fields["context_length"] == 4096
    assert "no sliding window" in found.notes[0]
    short = describe(spec_from_config({**mistral, "max_position_embeddings": 4096}))
    assert short.notes == ()
    gemma = describe(spec_from_config({"architectures": ["Gemma2ForCausalLM"]}))
    assert gemma.fields["attention.sliding_window"] == 4096
    assert gemma.fields["attn_logit_softcapping"] == 50.0
    assert gemma.fields["final_logit_softcapping"] == 30.0


@pytest.mark.parametrize(("scaling", "expected"), [
    ({"rope_type": "linear", "factor": 4.0},
     {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}),
    ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
     {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0,
      "rope.scaling.original_context_length": 512}),
])  # fmt: skip
def test_scaled_positions(scaling: dict[str, Any], expected: dict[str, Any]) -> None:
    fields = describe(spec_from_config({**LLAMA, "rope_scaling": scaling})).fields
    assert expected.items() <= fields.items()


@pytest.mark.parametrize(("changed", "words"), [
    ({"hidden_act": "gelu"}, "no gelu in llama"),
    ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "no dynamic RoPE"),
    ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_fast": 16}}, "usual numbers"),
    ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 8,
                       "long_factor": [2.0] * 8}}, "no LongRoPE"),
    ({"architectures": ["Qwen3ForCausalLM"], "attention_bias": True}, "qwen3 has no biases"),
    ({"architectures": ["Gemma2ForCausalLM"], "final_logit_softcapping": None}, "always caps"),
    ({"architectures": ["Gemma3ForCausalLM"], "final_logit_softcapping": 30.0}, "does not cap"),
    ({"architectures": ["Gemma3ForCausalLM"], "rope_local_base_freq": 5000.0}, "base 10000"),
    ({"architectures": ["Gemma2ForCausalLM"], "layer_types": ["full_attention"] * 2}, "slide"),
    ({"architectures": ["SmolLM3ForCausalLM"], "no_rope_layer_interval": 2}, "other layers"),
])  # fmt: skip
def test_what_llamacpp_computes_otherwise_is_refused(changed: dict[str, Any], words: str) -> None:
    with pytest.raises(EnvironmentUnfit, match=words) as refusal:
        describe(spec_from_config({**LLAMA, **changed}))
    assert "merged" in str(refusal.value)
