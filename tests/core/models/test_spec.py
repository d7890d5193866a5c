"""DecoderSpec: counting, JSON and back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftlab.models.spec import DecoderSpec, RopeSpec


def spec(**changes: Any) -> DecoderSpec:
    values: dict[str, Any] = {
        "family": "llama",
        "architecture": "LlamaForCausalLM",
        "vocab_size": 10,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_layers": 2,
        "num_heads": 4,
        "num_kv_heads": 2,
        "head_dim": 3,
        "max_positions": 64,
        "norm_eps": 1e-6,
        "attention_scale": 3**-0.5,
        "ropes": (RopeSpec(dim=2), RopeSpec(dim=2, kind="longrope", short_factor=(1.5,))),
        "rope_of_layer": (0, None),
        "windows": (None, 4),
    }
    return DecoderSpec(**{**values, **changes})


def test_json_and_back() -> None:
    original = spec(logit_softcap=3.0, notes=("a", "b"))
    assert DecoderSpec.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_keys_of_a_newer_version_are_ignored() -> None:
    value = spec().to_dict()
    value["invented"] = 1
    value["ropes"][0]["invented"] = 1
    assert DecoderSpec.from_dict(value) == spec()


def test_projections_are_counted_over_layers() -> None:
    assert spec().linear_shapes() == {
        "q_proj": (12, 8, 2),
        "k_proj": (6, 8, 2),
        "v_proj": (6, 8, 2),
        "o_proj": (8, 12, 2),
        "gate_proj": (12, 8, 2),
        "up_proj": (12, 8, 2),
        "down_proj": (8, 12, 2),
    }
    fused = spec(fused_qkv=True, fused_gate_up=True).linear_shapes()
    assert fused == {
        "qkv_proj": (24, 8, 2),
        "o_proj": (8, 12, 2),
        "gate_up_proj": (24, 8, 2),
        "down_proj": (8, 12, 2),
    }
    assert spec(fused_qkv=True, fused_gate_up=True).parameters() == spec().parameters()


@pytest.mark.parametrize(
    ("changes", "more"),
    [
        ({"tied_embeddings": True}, -80),
        ({"sandwich_norms": True}, 2 * 16),
        ({"qk_norm": True}, 2 * 6),
        ({"qkv_bias": True}, 2 * 24),
        ({"o_bias": True}, 2 * 8),
        ({"mlp_bias": True}, 2 * 32),
    ],
)
def test_parameters_follow_the_parts(changes: dict[str, Any], more: int) -> None:
    assert spec(**changes).parameters() - spec().parameters() == more


def test_embedding_parameters() -> None:
    assert spec().embedding_parameters() == 160
    assert spec(tied_embeddings=True).embedding_parameters() == 80


def test_which_ropes_depend_on_length() -> None:
    kinds = ("default", "linear", "dynamic", "yarn", "llama3", "longrope")
    dependent = [kind for kind in kinds if RopeSpec(dim=2, kind=kind).depends_on_length]
    assert dependent == ["dynamic", "longrope"]
