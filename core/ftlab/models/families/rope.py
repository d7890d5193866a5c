"""RopeSpec from either dialect: rope_theta and rope_scaling (transformers 4), rope_parameters (5).

Where the two versions of transformers read the same config differently, the newer reading is
taken: an explicit `factor` wins over max_position_embeddings / original_max_position_embeddings,
and a top-level original_max_position_embeddings wins over the one inside the mapping.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ftlab.models.families.common import ModelConfig
from ftlab.models.spec import RopeKind, RopeSpec

_KINDS: dict[str, RopeKind] = {
    "default": "default",
    "linear": "linear",
    "dynamic": "dynamic",
    "yarn": "yarn",
    "llama3": "llama3",
    "longrope": "longrope",
    "su": "longrope",  # Phi-3's first name for it
}
_NEEDED: dict[RopeKind, tuple[str, ...]] = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
}


def rope_of(config: ModelConfig, head_dim: int, *, layer_type: str | None = None) -> RopeSpec:
    """The RoPE of a model, or of its layers of `layer_type` where the config tells them apart.

    Raises EnvironmentUnfit for an unknown kind and for missing or wrong numbers.
    """
    scaling = _mapping(config, layer_type)
    theta = scaling.get("rope_theta") or config["rope_theta"]
    partial = scaling.get("partial_rotary_factor") or config["partial_rotary_factor"] or 1.0
    return rope_from(config, scaling, theta=float(theta), dim=int(head_dim * float(partial)))


def rope_from(
    config: ModelConfig, scaling: Mapping[str, Any], *, theta: float, dim: int
) -> RopeSpec:
    """RopeSpec from one scaling mapping; `dim` is the number of rotated features of a head."""
    kind = _kind(config, scaling)
    if dim < 2 or dim % 2:
        raise config.unfit(f"RoPE needs an even number of features, got {dim}")
    missing = [key for key in _NEEDED[kind] if scaling.get(key) is None]
    if missing:
        raise config.unfit(f"RoPE type {kind!r} needs {', '.join(missing)}")
    longest = config.integer("max_position_embeddings")
    original = (
        config["original_max_position_embeddings"]
        or scaling.get("original_max_position_embeddings")
        or longest
    )
    return RopeSpec(
        dim=dim,
        theta=theta,
        kind=kind,
        max_positions=longest,
        original_max_positions=int(original),
        attention_scaling=_attention_scaling(kind, scaling, longest, int(original)),
        factor=float(scaling.get("factor") or 1.0),
        beta_fast=float(scaling.get("beta_fast") or 32),
        beta_slow=float(scaling.get("beta_slow") or 1),
        truncate=bool(scaling.get("truncate", True)),
        low_freq_factor=float(scaling.get("low_freq_factor") or 1.0),
        high_freq_factor=float(scaling.get("high_freq_factor") or 4.0),
        short_factor=_factors(config, scaling, "short_factor", kind, dim),
        long_factor=_factors(config, scaling, "long_factor", kind, dim),
    )


def _mapping(config: ModelConfig, layer_type: str | None) -> Mapping[str, Any]:
    """The scaling mapping of the config: flat, or one of several by layer type."""
    found = config["rope_parameters"] or config["rope_scaling"] or {}
    if not isinstance(found, Mapping):
        raise config.unfit(f"rope_scaling is {found!r}, expected a mapping or null")
    nested = layer_type is not None and isinstance(found.get(layer_type), Mapping)
    return found[layer_type] if nested else found


def _kind(config: ModelConfig, scaling: Mapping[str, Any]) -> RopeKind:
    name = scaling.get("rope_type") or scaling.get("type") or "default"
    if name not in _KINDS:
        raise config.unfit(f"RoPE type {name!r} is unknown, supported: {', '.join(_KINDS)}")
    return _KINDS[name]


def _attention_scaling(
    kind: RopeKind, scaling: Mapping[str, Any], longest: int, original: int
) -> float:
    """YaRN (Peng et al. 2023) and LongRoPE (Ding et al. 2024): the multiplier of cos and sin."""
    if kind not in ("yarn", "longrope"):
        return 1.0
    if scaling.get("attention_factor") is not None:
        return float(scaling["attention_factor"])
    factor = float(scaling.get("factor") or longest / original)
    if kind == "longrope":
        return 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(original))
    scale, scale_all = scaling.get("mscale"), scaling.get("mscale_all_dim")
    if scale and scale_all:
        return _yarn_scale(factor, float(scale)) / _yarn_scale(factor, float(scale_all))
    return _yarn_scale(factor, 1.0)


def _yarn_scale(factor: float, scale: float) -> float:
    return 1.0 if factor <= 1 else 0.1 * scale * math.log(factor) + 1.0


def _factors(
    config: ModelConfig, scaling: Mapping[str, Any], key: str, kind: RopeKind, dim: int
) -> tuple[float, ...]:
    if kind != "longrope":
        return ()
    values = scaling[key]
    if not isinstance(values, (list, tuple)) or len(values) != dim // 2:
        raise config.unfit(f"{key} must be a list of {dim // 2} numbers, got {values!r}")
    return tuple(float(value) for value in values)
