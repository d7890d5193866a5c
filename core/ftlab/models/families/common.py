"""Reading a model's config.json: values with the family's defaults, checked and named in errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ftlab.errors import EnvironmentUnfit
from ftlab.models.spec import Activation

_ACTIVATIONS: dict[str, Activation] = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
}
_LAYER_TYPES = ("full_attention", "sliding_attention")


class ModelConfig:
    """One model's config over its family's defaults (those of transformers).

    A key that is absent takes the default; an explicit null stays null, as in transformers.
    """

    def __init__(
        self, values: Mapping[str, Any], defaults: Mapping[str, Any], architecture: str
    ) -> None:
        self.values = values
        self.defaults = defaults
        self.architecture = architecture

    def __getitem__(self, key: str) -> Any:
        return self.values[key] if key in self.values else self.defaults.get(key)

    def integer(self, key: str) -> int:
        """A positive whole number; EnvironmentUnfit otherwise."""
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.unfit(f"{key} is {value!r}, expected a positive whole number")
        return value

    def number(self, key: str) -> float:
        """A real number; EnvironmentUnfit otherwise."""
        value = self[key]
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.unfit(f"{key} is {value!r}, expected a number")
        return float(value)

    def activation(self, key: str) -> Activation:
        """The MLP's activation, by transformers' name."""
        name = self[key]
        if name not in _ACTIVATIONS:
            raise self.unfit(f"{key} is {name!r}, supported are {', '.join(_ACTIVATIONS)}")
        return _ACTIVATIONS[name]

    def unfit(self, message: str) -> EnvironmentUnfit:
        """The error that says what in this model's config cannot be used."""
        return EnvironmentUnfit(f"config.json of this {self.architecture}: {message}")


def shape_of(config: ModelConfig) -> dict[str, Any]:
    """The sizes every family names alike, as keyword arguments of DecoderSpec."""
    heads = config.integer("num_attention_heads")
    kv_heads = heads if config["num_key_value_heads"] is None else config["num_key_value_heads"]
    if not isinstance(kv_heads, int) or kv_heads < 1 or heads % kv_heads:
        raise config.unfit(f"{heads} attention heads cannot share {kv_heads!r} key-value heads")
    hidden = config.integer("hidden_size")
    head_dim = hidden // heads if config["head_dim"] is None else config.integer("head_dim")
    return {
        "architecture": config.architecture,
        "vocab_size": config.integer("vocab_size"),
        "hidden_size": hidden,
        "intermediate_size": config.integer("intermediate_size"),
        "num_layers": config.integer("num_hidden_layers"),
        "num_heads": heads,
        "num_kv_heads": kv_heads,
        "head_dim": head_dim,
        "max_positions": config.integer("max_position_embeddings"),
        "norm_eps": config.number("rms_norm_eps"),
        "attention_scale": head_dim**-0.5,
        "tied_embeddings": bool(config["tie_word_embeddings"]),
        "notes": _notes(config),
    }


def windows_of(config: ModelConfig, layer_types: Sequence[str], window: Any) -> dict[str, Any]:
    """Sliding windows by layer from transformers' `layer_types`, as arguments of DecoderSpec."""
    layers = config.integer("num_hidden_layers")
    unknown = sorted({str(kind) for kind in layer_types if kind not in _LAYER_TYPES})
    if unknown:
        raise config.unfit(f"layer_types has {', '.join(unknown)}, supported: {_LAYER_TYPES}")
    if len(layer_types) != layers:
        raise config.unfit(f"layer_types names {len(layer_types)} layers, the model has {layers}")
    sliding = "sliding_attention" in layer_types
    if sliding and (isinstance(window, bool) or not isinstance(window, int) or window < 1):
        raise config.unfit(f"sliding_window is {window!r}, expected a positive number of tokens")
    return {"windows": tuple(window if kind != "full_attention" else None for kind in layer_types)}


def optional_number(config: ModelConfig, key: str) -> float | None:
    """A number, or None where the config says null or nothing."""
    return None if config[key] is None else config.number(key)


def _notes(config: ModelConfig) -> tuple[str, ...]:
    """Dropouts of pretraining that fine-tuning leaves out; said, because they are ignored."""
    keys = ("attention_dropout", "resid_pdrop", "embd_pdrop")
    return tuple(
        f"{key} {config[key]} of the model's config is not applied" for key in keys if config[key]
    )
