"""What a group of projections that share their input consists of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ftlab.lora.layers import LoraTensors
from ftlab.models.fused.workspace import Workspace
from ftlab.models.layers import Projection, Weight
from ftlab.models.rng import DeviceKeys, StepRng
from ftlab_kernels.reference.dropout import dropout


class Gradients:
    """Gradients of one backward pass by parameter.

    Args:
        sinks: where gradients are added to what is there, by the parameter's id; none of these is
            in `found`.
        partial: gradients come in parts, so they are rounded to the parameter's dtype in `of`.
    """

    def __init__(self, sinks: Mapping[int, Tensor] | None = None, *, partial: bool = False) -> None:
        self.found: dict[int, Tensor] = {}
        self.sinks = sinks or {}
        self.partial = partial

    def add(self, parameter: Tensor, grad: Tensor) -> None:
        """Give a parameter its gradient, or more of it."""
        sink = self.sinks.get(id(parameter))
        if sink is not None:
            sink.add_(grad)
            return
        shaped = grad if self.partial else grad.to(parameter.dtype)
        held = self.found.get(id(parameter))
        self.found[id(parameter)] = shaped if held is None else held.add_(shaped)

    def of(self, parameter: Tensor) -> Tensor | None:
        """What was found for a parameter, in its dtype."""
        held = self.found.get(id(parameter))
        return None if held is None else held.to(parameter.dtype)


@dataclass(slots=True)
class Pass:
    """What every layer of one pass shares."""

    scratch: Workspace
    rng: StepRng | DeviceKeys | None  # None: no dropout
    drop: Callable[..., Tensor] = dropout
    gradients: Gradients = field(default_factory=Gradients)
    sites: int = 0  # call sites of dropout there are
    first: int = 0  # row number of the first row at work, where rows are taken some at a time
    slopes: dict[int, Tensor] = field(default_factory=dict)  # G by site, between two calls
    _keys: Tensor | None = None

    def seeds(self, first: int, count: int) -> Tensor:
        """Keys of `count` call sites from `first` on, int64 on the device: one copy a pass."""
        if self._keys is None:
            assert self.rng is not None
            self._keys = self.rng.keys(self.sites, self.scratch.device)
        return self._keys[first : first + count]


@dataclass(frozen=True, slots=True)
class Target:
    """One projection of a group: rows [start, stop) of its output."""

    weight: Weight
    bias: Tensor | None
    lora: LoraTensors | None
    site: int
    start: int
    stop: int
    low: int  # first of its columns among x A^T of the whole group

    @property
    def rows(self) -> slice:
        """Its columns in the group's output [T, N]."""
        return slice(self.start, self.stop)

    @property
    def ranks(self) -> slice:
        """Its columns in the group's x A^T."""
        return slice(self.low, self.low + (self.lora.a.shape[0] if self.lora else 0))

    @property
    def trains_weight(self) -> bool:
        """Whether the dense weight itself gets a gradient."""
        return isinstance(self.weight, Tensor) and self.weight.requires_grad

    @property
    def trains(self) -> bool:
        """Whether any of its parameters gets a gradient."""
        trained_bias = self.bias is not None and self.bias.requires_grad
        return self.trains_weight or trained_bias or self.lora is not None

    def dropped(self, x: Tensor, shared: Pass) -> Tensor:
        """d(x), which is x itself without dropout."""
        p = self.dropout(shared)
        first = shared.first * x.shape[1]
        return shared.drop(x, p, self._key(shared), first=first) if p else x

    def dropout(self, shared: Pass) -> float:
        """The share that is dropped in this pass."""
        return self.lora.dropout if self.lora is not None and shared.rng is not None else 0.0

    def _key(self, shared: Pass) -> int:
        assert shared.rng is not None
        return shared.rng.key(self.site)


class Projections:
    """A group of projections [K -> N1 + N2 + ...]: what every way to compute it knows of it."""

    def __init__(self, parts: list[Target], inputs: int, arena: str) -> None:
        self.parts = parts
        self.arena = arena
        self.inputs = inputs
        self.outputs = parts[-1].stop
        self.trains = any(part.trains for part in parts)
        self.drops = any(part.lora is not None and part.lora.dropout > 0 for part in parts)


def targets(projections: list[Projection], sizes: list[int], *, adapter: bool) -> list[Target]:
    """Lay projections of `sizes` outputs beside each other; `adapter` False takes the base."""
    found, start, low = [], 0, 0
    for projection, size in zip(projections, sizes, strict=True):
        held = projection.tuned if adapter else projection.base
        lora = projection.lora if adapter else None
        found.append(
            Target(held.weight, held.bias, lora, projection.site, start, start + size, low)
        )
        start += size
        low += lora.a.shape[0] if lora else 0
    return found


def add_bias(parts: list[Target], out: Tensor) -> None:
    """out [T, N] += bias, where there is one."""
    for part in parts:
        if part.bias is not None:
            out[:, part.rows] += part.bias.detach().to(out.dtype)


def bias_gradients(parts: list[Target], dy: Tensor, gradients: Gradients) -> None:
    """Column sums of dy [T, N] in fp32, for trained biases."""
    for part in parts:
        if part.bias is not None and part.bias.requires_grad:
            wide = torch.promote_types(dy.dtype, torch.float32)
            gradients.add(part.bias, dy[:, part.rows].sum(0, dtype=wide))
