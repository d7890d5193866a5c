"""What llama.cpp calls a decoder and its numbers; refused where it would compute something else.

llama.cpp keeps one graph for each architecture and reads the sizes from the file. What the graph
fixes in code (the layers that slide, the scale of attention, biases) must be what the model has.
Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ftlab.errors import EnvironmentUnfit
from ftlab.models.spec import DecoderSpec, RopeSpec

Value = int | float | str

_NAMES = {
    "llama": "llama",
    "mistral": "llama",  # one graph; sliding windows are not in it
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3",
    "phi3": "phi3",
    "smollm3": "smollm3",
}
_NEIGHBOURS = ("llama", "smollm3")
_SLIDING = {"gemma2": 2, "gemma3": 6}  # every so many layers one sees all; the others slide
_WIDEST = {("gemma2", 46), ("gemma3", 62)}  # the 27B models, known by their layers
_NOPE = 4  # every fourth layer of smollm3 has no positions


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a file says of a model before its tensors."""

    name: str  # llama.cpp's
    fields: Mapping[str, Value]  # without the name in front
    neighbours: bool  # rotates features 2i and 2i + 1 of a head, not i and i + D/2
    notes: tuple[str, ...] = ()  # what a person should know of the file


def describe(spec: DecoderSpec) -> Architecture:
    """Raises EnvironmentUnfit with every reason why llama.cpp cannot compute this model."""
    name = _NAMES.get(spec.family, "")
    reasons = list(_obstacles(spec, name)) if name else ["the family is unknown to this export"]
    if reasons:
        raise EnvironmentUnfit(
            f"this {spec.architecture} cannot be written as GGUF: {'; '.join(reasons)}; "
            f"merged, in Hugging Face's format, is there for every model"
        )
    fields: dict[str, Value] = {
        "context_length": spec.max_positions,
        "embedding_length": spec.hidden_size,
        "block_count": spec.num_layers,
        "feed_forward_length": spec.intermediate_size,
        "attention.head_count": spec.num_heads,
        "attention.head_count_kv": spec.num_kv_heads,
        "attention.key_length": spec.head_dim,
        "attention.value_length": spec.head_dim,
        "attention.layer_norm_rms_epsilon": spec.norm_eps,
        **_rope_fields(spec.ropes[0]),
    }
    notes = _window(spec, name, fields)
    if spec.attention_softcap is not None:
        fields["attn_logit_softcapping"] = spec.attention_softcap
    if spec.logit_softcap is not None:
        fields["final_logit_softcapping"] = spec.logit_softcap
    return Architecture(name, fields, name in _NEIGHBOURS, notes)


def _window(spec: DecoderSpec, name: str, fields: dict[str, Value]) -> tuple[str, ...]:
    """Sliding windows where the graph has them; elsewhere the length up to which none is felt."""
    window = min((window for window in spec.windows if window is not None), default=None)
    if name in _SLIDING and window is not None:
        fields["attention.sliding_window"] = window
    elif window is not None and window < spec.max_positions:
        fields["context_length"] = window
        return (
            f"llama.cpp has no sliding window for {name}: the file says {window} tokens of "
            f"context, up to which the model computes the same",
        )
    elif name == "phi3":
        fields["attention.sliding_window"] = 0
    return ()


def _rope_fields(rope: RopeSpec) -> dict[str, Value]:
    fields: dict[str, Value] = {"rope.dimension_count": rope.dim, "rope.freq_base": rope.theta}
    if rope.kind in ("linear", "yarn"):
        fields |= {"rope.scaling.type": rope.kind, "rope.scaling.factor": rope.factor}
    if rope.kind in ("yarn", "longrope"):
        fields["rope.scaling.original_context_length"] = rope.original_max_positions
    if rope.kind == "longrope":
        fields["rope.scaling.attn_factor"] = rope.attention_scaling
    return fields


def _obstacles(spec: DecoderSpec, name: str) -> Iterator[str]:
    gemma = name.startswith("gemma")
    if spec.activation != ("gelu_tanh" if gemma else "silu"):
        yield f"llama.cpp has no {spec.activation} in {name}"
    biased = {key for key in ("qkv", "o", "mlp") if getattr(spec, f"{key}_bias")}
    if biased - {"llama": {"qkv", "o", "mlp"}, "qwen2": {"qkv"}}.get(name, set()):
        yield f"llama.cpp's {name} has no biases"
    spread = spec.hidden_size // spec.num_heads
    scale = (spread if (name, spec.num_layers) in _WIDEST else spec.head_dim) ** -0.5
    if not math.isclose(spec.attention_scale, scale, rel_tol=1e-6):
        yield f"attention is scaled by {spec.attention_scale:g}, llama.cpp scales by {scale:g}"
    if name == "gemma2" and (spec.attention_softcap is None or spec.logit_softcap is None):
        yield "llama.cpp always caps the logits of gemma2"
    if name == "gemma3" and spec.logit_softcap is not None:
        yield "llama.cpp does not cap the logits of gemma3"
    yield from _layer_obstacles(spec, name)
    yield from _rope_obstacles(spec, name)


def _layer_obstacles(spec: DecoderSpec, name: str) -> Iterator[str]:
    """Layers that llama.cpp knows by their number."""
    every = _SLIDING.get(name)
    if every and [window is None for window in spec.windows] != [
        (i + 1) % every == 0 for i in range(spec.num_layers)
    ]:
        yield f"llama.cpp lets every layer of {name} slide but each {every}th"
    rotated = [rope is not None for rope in spec.rope_of_layer]
    wanted = [name != "smollm3" or (i + 1) % _NOPE != 0 for i in range(spec.num_layers)]
    if rotated != wanted:
        yield f"llama.cpp gives other layers of {name} positions"


def _rope_obstacles(spec: DecoderSpec, name: str) -> Iterator[str]:
    rope = spec.ropes[0]
    if rope.kind == "dynamic":
        yield "llama.cpp has no dynamic RoPE"
    if rope.kind == "longrope" and name != "phi3":
        yield f"llama.cpp's {name} has no LongRoPE"
    if rope.kind == "yarn":
        usual = rope.beta_fast == 32 and rope.beta_slow == 1 and rope.truncate
        scaled = 0.1 * math.log(rope.factor) + 1 if rope.factor > 1 else 1.0
        if not usual or not math.isclose(rope.attention_scaling, scaled, rel_tol=1e-6):
            yield "llama.cpp knows YaRN with its usual numbers only"
    if name == "gemma3" and (spec.ropes[1].theta, spec.ropes[1].kind) != (10_000.0, "default"):
        yield "llama.cpp rotates the sliding layers of gemma3 with base 10000"
