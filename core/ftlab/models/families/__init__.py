"""The supported families: which transformers class is read by which module, and the table of it.

Standard library only: `python -m ftlab`, the probe and the plan use it without torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ftlab.errors import ConfigError, EnvironmentUnfit, Problem
from ftlab.models.families import gemma, llama, mistral, phi, qwen, smollm3
from ftlab.models.families.common import ModelConfig
from ftlab.models.spec import DecoderSpec


@dataclass(frozen=True, slots=True)
class Family:
    """One row of the support table."""

    name: str
    architecture: str  # transformers class
    model_type: str  # transformers' model_type
    models: str  # what people know by name
    defaults: Mapping[str, Any]  # of transformers, where config.json is silent
    build: Callable[[ModelConfig], DecoderSpec]


FAMILIES: tuple[Family, ...] = (
    Family(
        "llama",
        "LlamaForCausalLM",
        "llama",
        "Llama 1-3.x, SmolLM 1/2, TinyLlama, Yi",
        llama.DEFAULTS,
        llama.spec,
    ),
    Family(
        "mistral",
        "MistralForCausalLM",
        "mistral",
        "Mistral 7B, Mistral Nemo, Zephyr",
        mistral.DEFAULTS,
        mistral.spec,
    ),
    Family(
        "qwen2",
        "Qwen2ForCausalLM",
        "qwen2",
        "Qwen2, Qwen2.5, QwQ",
        qwen.DEFAULTS_2,
        qwen.spec_2,
    ),
    Family("qwen3", "Qwen3ForCausalLM", "qwen3", "Qwen3 (dense)", qwen.DEFAULTS_3, qwen.spec_3),
    Family("gemma", "GemmaForCausalLM", "gemma", "Gemma 1", gemma.DEFAULTS_1, gemma.spec_1),
    Family("gemma2", "Gemma2ForCausalLM", "gemma2", "Gemma 2", gemma.DEFAULTS_2, gemma.spec_2),
    Family(
        "gemma3",
        "Gemma3ForCausalLM",
        "gemma3_text",
        "Gemma 3 270M, 1B",
        gemma.DEFAULTS_3,
        gemma.spec_3,
    ),
    Family(
        "gemma3",
        "Gemma3ForConditionalGeneration",
        "gemma3",
        "Gemma 3 4B-27B (text only; the vision tower stays as it is)",
        gemma.DEFAULTS_3,
        gemma.spec_3_vision,
    ),
    Family(
        "phi3",
        "Phi3ForCausalLM",
        "phi3",
        "Phi-3, Phi-3.5-mini, Phi-4, Phi-4-mini",
        phi.DEFAULTS,
        phi.spec,
    ),
    Family("smollm3", "SmolLM3ForCausalLM", "smollm3", "SmolLM3", smollm3.DEFAULTS, smollm3.spec),
)


def find(config: Mapping[str, Any]) -> Family:
    """The family of a model by its config's `architectures`, else by `model_type`.

    Raises EnvironmentUnfit that names the supported architectures.
    """
    named = config.get("architectures") or []
    for family in FAMILIES:
        if family.architecture in named:
            return family
    if not named:
        for family in FAMILIES:
            if family.model_type == config.get("model_type"):
                return family
    got = ", ".join(map(str, named)) or f"model_type {config.get('model_type')!r}"
    supported = ", ".join(family.architecture for family in FAMILIES)
    raise EnvironmentUnfit(f"the architecture {got} is not supported; supported are {supported}")


def spec_from_config(
    config: Mapping[str, Any], rope_scaling: str | Mapping[str, Any] | None = "auto"
) -> DecoderSpec:
    """Describe a model from its config.json or from `to_dict()` of its transformers config.

    Args:
        config: either dialect (transformers 4 or 5); absent keys take that family's defaults.
        rope_scaling: the setting `model.rope_scaling`: "auto" keeps the model's own, None turns
            scaling off, a mapping replaces it.

    Raises:
        EnvironmentUnfit: an architecture, RoPE type, activation or size that is not supported.
        ConfigError: `rope_scaling` does not make sense for this model.
    """
    family = find(config)
    own = family.build(ModelConfig(config, family.defaults, family.architecture))
    if rope_scaling == "auto":
        return own
    changed = with_rope_scaling(config, rope_scaling)
    try:
        return family.build(ModelConfig(changed, family.defaults, family.architecture))
    except EnvironmentUnfit as error:
        raise ConfigError([Problem("model.rope_scaling", str(error))]) from error


def with_rope_scaling(
    config: Mapping[str, Any], rope_scaling: str | Mapping[str, Any] | None
) -> dict[str, Any]:
    """A copy of a model's config in which the setting `model.rope_scaling` is applied."""
    if rope_scaling == "auto":
        return dict(config)
    if isinstance(rope_scaling, str):
        message = f"got {rope_scaling!r}, expected auto, null or a mapping"
        raise ConfigError([Problem("model.rope_scaling", message)])
    if isinstance(config.get("text_config"), Mapping):
        return {**config, "text_config": with_rope_scaling(config["text_config"], rope_scaling)}
    parameters = config.get("rope_parameters")
    if not parameters:
        return {**config, "rope_scaling": None if rope_scaling is None else dict(rope_scaling)}
    if isinstance(parameters.get("full_attention"), Mapping):
        full = _replaced(parameters["full_attention"], rope_scaling)
        return {**config, "rope_parameters": {**parameters, "full_attention": full}}
    return {**config, "rope_parameters": _replaced(parameters, rope_scaling)}


def dialect_of(config: Mapping[str, Any], major: int) -> dict[str, Any]:
    """A copy of a config that transformers of that major version reads rightly.

    transformers 5 reads both dialects. 4 ignores `rope_parameters` without a word, so a
    checkpoint saved by 5 would run with the wrong base.
    """
    values = dict(config)
    if major >= 5:
        return values
    if isinstance(values.get("text_config"), Mapping):
        values["text_config"] = dialect_of(values["text_config"], major)
    parameters = values.pop("rope_parameters", None)
    if not parameters:
        return values
    local = parameters.get("sliding_attention")
    if isinstance(local, Mapping) and local.get("rope_theta"):
        values["rope_local_base_freq"] = local["rope_theta"]
    flat = dict(parameters["full_attention"] if isinstance(local, Mapping) else parameters)
    for key in ("rope_theta", "partial_rotary_factor"):
        value = flat.pop(key, None)
        if value is not None:
            values[key] = value
    kind = flat.get("rope_type", "default")
    if config.get("model_type") == "phi3":  # it insists on exactly these three keys
        flat = {k: flat[k] for k in ("short_factor", "long_factor") if k in flat} | {"type": kind}
    values["rope_scaling"] = None if kind == "default" else flat
    return values


def _replaced(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> dict[str, Any]:
    """Scaling replaced, base and rotated share kept."""
    kept = {k: old[k] for k in ("rope_theta", "partial_rotary_factor") if old.get(k) is not None}
    kind = "default" if new is None else new.get("rope_type") or new.get("type")
    return {**kept, **(new or {}), "rope_type": kind}
