"""One decoder layer bound for the engine: its norms, its groups of projections, its sizes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ftlab.models.block import LAYER_SITES, Block
from ftlab.models.fused.folded import FoldedGroup
from ftlab.models.fused.joined import JoinedGroup
from ftlab.models.fused.separate import SeparateGroup
from ftlab.models.fused.targets import Target, targets
from ftlab.models.layers import Norm
from ftlab.models.spec import DecoderSpec

__all__ = ["LAYER_SITES", "BoundNorm", "Group", "Layer", "Sizes", "bind"]

Group = FoldedGroup | JoinedGroup | SeparateGroup


@dataclass(frozen=True, slots=True)
class BoundNorm:
    """An RMSNorm's weight with the family's conventions."""

    weight: Tensor
    eps: float
    offset: float
    weight_fp32: bool

    @property
    def trains(self) -> bool:
        """Whether its weight gets a gradient."""
        return self.weight.requires_grad


@dataclass(frozen=True, slots=True)
class Sizes:
    """Widths of a layer's tensors, pads for folded adapters included."""

    hidden: int
    query: int
    key: int
    inner: int
    heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True, slots=True)
class Layer:
    """The parts of one layer, for the adapted or for the base model."""

    index: int
    sizes: Sizes
    window: int | None
    rope: int | None
    attention_norm: BoundNorm
    mlp_norm: BoundNorm
    attention_out_norm: BoundNorm | None
    mlp_out_norm: BoundNorm | None
    q_norm: BoundNorm | None
    k_norm: BoundNorm | None
    qkv: Group
    o: Group
    gate_up: Group
    down: Group

    @property
    def groups(self) -> tuple[Group, Group, Group, Group]:
        """In forward order."""
        return self.qkv, self.o, self.gate_up, self.down

    @property
    def norms(self) -> tuple[BoundNorm, ...]:
        """Those the family has."""
        found = (
            self.attention_norm, self.mlp_norm, self.attention_out_norm, self.mlp_out_norm,
            self.q_norm, self.k_norm,
        )  # fmt: skip
        return tuple(norm for norm in found if norm is not None)

    def tensors(self) -> Iterator[Tensor]:
        """Every parameter of the layer that may be trained."""
        for group in self.groups:
            for part in group.parts:
                lora = part.lora
                found = (
                    part.weight,
                    part.bias,
                    *((lora.a, lora.b, lora.magnitude) if lora else ()),
                )
                yield from (tensor for tensor in found if isinstance(tensor, Tensor))
        yield from (norm.weight for norm in self.norms)

    @property
    def product_columns(self) -> int:
        """Of the arena that holds y in the MLP, then the slopes of attention's out and q, k, v."""
        return max(self.sizes.inner + self.down.pad, self.slope_columns)

    @property
    def slope_columns(self) -> int:
        """Of the slopes of attention's out and of q, k, v beside each other."""
        return self.sizes.query + self.qkv.outputs + self.qkv.pad

    @property
    def stream_width(self) -> int:
        """Of the gradient of the residual stream, which o's and down's backward pass read."""
        return self.sizes.hidden + max(self.o.pad, self.down.pad)


def bind(block: Block, index: int, *, adapter: bool, dtype: torch.dtype, folds: bool) -> Layer:
    """A block's parameters in groups; `adapter` False takes the base model's. `folds`: `stack`."""
    spec = block.spec
    names: list[tuple[str, ...]] = [
        ("qkv_proj",) if spec.fused_qkv else ("q_proj", "k_proj", "v_proj"),
        ("o_proj",),
        ("gate_up_proj",) if spec.fused_gate_up else ("gate_proj", "up_proj"),
        ("down_proj",),
    ]
    shapes = spec.layer_linears()
    arenas = ("wide", "narrow", "wide", "narrow")
    groups: list[Group] = []
    for together, arena in zip(names, arenas, strict=True):
        parts = targets(
            [block.linears[name] for name in together],
            [shapes[name][0] for name in together],
            adapter=adapter,
        )
        groups.append(_group(parts, shapes[together[0]][1], arena, dtype, folds))
    return Layer(
        index, _sizes(spec), block.window, block.rope,
        _norm(block.attention_norm, adapter), _norm(block.mlp_norm, adapter),
        _maybe(block.attention_out_norm, adapter), _maybe(block.mlp_out_norm, adapter),
        _maybe(block.q_norm, adapter), _maybe(block.k_norm, adapter),
        *groups,
    )  # fmt: skip


def _group(parts: list[Target], inputs: int, arena: str, dtype: torch.dtype, folds: bool) -> Group:
    """Folded where every weight is frozen and there is something to fold or to expand."""
    if not folds:
        joined = JoinedGroup.takes(parts, dtype)
        return (JoinedGroup if joined else SeparateGroup)(parts, inputs, arena)
    ready = all(isinstance(p.weight, Tensor) and p.weight.dtype == dtype for p in parts)
    trained = any(p.trains_weight or (p.lora and p.lora.magnitude is not None) for p in parts)
    if trained or (ready and not any(p.lora for p in parts)):
        return SeparateGroup(parts, inputs, arena)
    made = FoldedGroup(parts, inputs, arena)
    if ready:
        made.settle()
    return made


def _sizes(spec: DecoderSpec) -> Sizes:
    return Sizes(
        spec.hidden_size,
        spec.num_heads * spec.head_dim,
        spec.num_kv_heads * spec.head_dim,
        spec.intermediate_size,
        spec.num_heads,
        spec.num_kv_heads,
        spec.head_dim,
    )


def _norm(norm: Norm, adapter: bool) -> BoundNorm:
    weight = norm.tuned if adapter else norm.base
    return BoundNorm(weight, norm.eps, norm.offset, norm.weight_fp32)


def _maybe(norm: Norm | None, adapter: bool) -> BoundNorm | None:
    return None if norm is None else _norm(norm, adapter)
