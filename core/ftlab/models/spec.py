"""DecoderSpec: one frozen description of a decoder that covers every supported family.

Standard library only, so that a plan can be made without torch. Built from a config.json by
`ftlab.models.families.spec_from_config`; the engine reads nothing else about the architecture.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

RopeKind = Literal["default", "linear", "dynamic", "yarn", "llama3", "longrope"]
Activation = Literal["silu", "gelu", "gelu_tanh"]


@dataclass(frozen=True, slots=True)
class RopeSpec:
    """Rotary position embedding, every default already filled in.

    Positions and lengths are tokens. `attention_scaling` multiplies cos and sin (YaRN, LongRoPE).
    """

    dim: int  # leading features of each head that are rotated, even
    theta: float = 10_000.0  # base wavelength
    kind: RopeKind = "default"
    max_positions: int = 2048  # dynamic: lengths beyond it stretch the base
    original_max_positions: int = 2048  # length before scaling (yarn, llama3, longrope)
    attention_scaling: float = 1.0
    factor: float = 1.0  # linear, dynamic, yarn, llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    truncate: bool = True  # yarn: round the correction range to whole dimensions
    low_freq_factor: float = 1.0  # llama3
    high_freq_factor: float = 4.0  # llama3
    short_factor: tuple[float, ...] = ()  # longrope, [dim / 2]
    long_factor: tuple[float, ...] = ()  # longrope, [dim / 2]

    @property
    def depends_on_length(self) -> bool:
        """Whether the frequencies change with the longest position of the batch."""
        return self.kind in ("dynamic", "longrope")


@dataclass(frozen=True, slots=True)
class DecoderSpec:
    """Everything the engine must know about a pre-norm decoder with rotary positions."""

    family: str  # row of the support table, such as "llama"
    architecture: str  # transformers class, such as "LlamaForCausalLM"
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    max_positions: int  # longest position the model was trained for, tokens
    norm_eps: float
    attention_scale: float  # multiplies q k^T
    ropes: tuple[RopeSpec, ...]
    rope_of_layer: tuple[int | None, ...]  # index into ropes; None: no rotation (NoPE)
    windows: tuple[int | None, ...]  # per layer: keys seen, the query's own included; None: all
    activation: Activation = "silu"
    norm_offset: float = 0.0  # Gemma multiplies by 1 + weight
    norm_weight_fp32: bool = False  # Gemma multiplies by the weight before rounding
    sandwich_norms: bool = False  # Gemma 2 and 3 also norm what attention and MLP give
    qk_norm: bool = False  # RMSNorm over each head of q and k
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    fused_qkv: bool = False  # one qkv_proj
    fused_gate_up: bool = False  # one gate_up_proj
    attention_softcap: float | None = None
    logit_softcap: float | None = None
    embedding_scale: float = 1.0
    tied_embeddings: bool = False
    root: str = "model"  # where embed_tokens, layers and norm lie in the causal LM
    notes: tuple[str, ...] = ()  # parts of the model's config that training does not apply

    def layer_linears(self) -> dict[str, tuple[int, int]]:
        """Projection -> (out features, in features) of one layer, in forward order."""
        query = self.num_heads * self.head_dim
        key = self.num_kv_heads * self.head_dim
        hidden, inner = self.hidden_size, self.intermediate_size
        attention = (
            {"qkv_proj": (query + 2 * key, hidden)}
            if self.fused_qkv
            else {"q_proj": (query, hidden), "k_proj": (key, hidden), "v_proj": (key, hidden)}
        )
        mlp = (
            {"gate_up_proj": (2 * inner, hidden)}
            if self.fused_gate_up
            else {"gate_proj": (inner, hidden), "up_proj": (inner, hidden)}
        )
        return {**attention, "o_proj": (hidden, query), **mlp, "down_proj": (hidden, inner)}

    def linear_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Projection -> (out features, in features, how many there are over all layers)."""
        return {name: (*shape, self.num_layers) for name, shape in self.layer_linears().items()}

    def has_bias(self, projection: str) -> bool:
        """Whether the projection of that name carries a bias vector."""
        if projection == "o_proj":
            return self.o_bias
        return self.qkv_bias if projection in ("q_proj", "k_proj", "v_proj") else self.mlp_bias

    def embedding_parameters(self) -> int:
        """Parameters of embed_tokens, plus the head where it is not tied to it."""
        return self.vocab_size * self.hidden_size * (1 if self.tied_embeddings else 2)

    def parameters(self) -> int:
        """All parameters of the text decoder; tied weights count once."""
        linears = self.layer_linears()
        layer = sum(out * into for out, into in linears.values())
        layer += sum(out for name, (out, _) in linears.items() if self.has_bias(name))
        layer += self.hidden_size * (4 if self.sandwich_norms else 2)
        layer += 2 * self.head_dim if self.qk_norm else 0
        return self.num_layers * layer + self.hidden_size + self.embedding_parameters()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values (tuples become lists)."""
        return {key: _plain(value) for key, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> DecoderSpec:
        """The inverse of `to_dict`. Unknown keys of a newer version are ignored."""
        known = {item.name for item in dataclasses.fields(cls)}
        fields = {key: _frozen(item) for key, item in value.items() if key in known}
        fields["ropes"] = tuple(_rope_from_dict(rope) for rope in value["ropes"])
        return cls(**fields)


def _rope_from_dict(value: Mapping[str, Any]) -> RopeSpec:
    known = {item.name for item in dataclasses.fields(RopeSpec)}
    return RopeSpec(**{key: _frozen(item) for key, item in value.items() if key in known})


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
