"""The fastest schedule that fits a byte budget, with its predicted peak: a pure function.

Each layer keeps, recomputes or offloads each tensor that backward needs (`planning.schedule`). The
peak lies where the backward pass begins, or in a layer further back when gradients weigh more than
what is freed. Offloading costs nothing while its copies hide behind a layer's computation;
recomputing costs the products it repeats. For each set of offloaded items the rest is recomputed,
and the bytes left are spent on keeping what costs most a byte, the last layers first.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from ftlab import estimate
from ftlab.estimate import Work
from ftlab.planning import buffers
from ftlab.planning.buffers import Shape
from ftlab.planning.schedule import Choice, LayerSchedule, Schedule, overlays

_SLOTS = 2  # device buffers of each offloaded item
_NUISANCE = 0.02  # share of a hidden copy's time that it costs all the same


@dataclass(frozen=True, slots=True)
class Speeds:
    """What the device does in a second. The defaults are an H100's, measured."""

    products: float = 6.9e14  # floating-point operations of large 16-bit products
    attention: float = 4.5e14
    memory: float = 2.6e12  # bytes
    host_link: float = 4.5e10  # bytes to or from pinned memory


@dataclass(frozen=True, slots=True)
class Chosen:
    """A schedule and what it takes."""

    schedule: Schedule
    peak: int  # bytes on the device at the peak of a step, without the CUDA context
    host: int  # pinned bytes
    seconds: float  # of computing again and of copies that do not hide, a micro-batch


def fastest(work: Work, budget: int, speeds: Speeds | None = None) -> Chosen | None:
    """The schedule that adds least time and whose peak fits; None where none fits.

    Args:
        work: one micro-batch; its `checkpointing` is not looked at.
        budget: bytes on the device, without the CUDA context.
    """
    model = _Model(work, speeds or Speeds())
    best: Chosen | None = None
    items = tuple(model.bytes)
    for count in range(len(items) + 1):
        for away in itertools.combinations(items, count):
            found = model.fill(away, budget)
            if found is None or not _pins(work, found):
                continue
            if best is None or _rank(found) < _rank(best):
                best = found
    return best


def predicted(work: Work, schedule: Schedule) -> int:
    """Bytes on the device at the peak of a step under a schedule, without the CUDA context."""
    return _Model(work, Speeds()).peak(schedule)


def least(work: Work) -> Chosen:
    """The schedule of the smallest peak."""
    model = _Model(work, Speeds())
    items = tuple(model.bytes)
    tried = [
        model.bare(away)
        for count in range(len(items) + 1)
        for away in itertools.combinations(items, count)
    ]
    allowed = [chosen for chosen in tried if _pins(work, chosen)]
    return min(allowed, key=lambda chosen: (chosen.peak, chosen.seconds))


def _pins(work: Work, chosen: Chosen) -> bool:
    """Whether the host has room for what is offloaded; nothing offloaded always fits."""
    return work.host is None or chosen.host <= work.host


def _rank(chosen: Chosen) -> tuple[float, int, int]:
    return chosen.seconds, chosen.host, chosen.peak


class _Model:
    """Bytes and seconds of one kind of work."""

    def __init__(self, work: Work, speeds: Speeds) -> None:
        self.work, self.speeds = work, speeds
        self.shape: Shape = buffers.shape_of(work)
        self.bytes = buffers.item_bytes(work, self.shape)
        self.again = _again(work, self.shape, speeds)
        self.layer_seconds = _layer_seconds(work, speeds)
        trained = estimate.trained_parameters(work.spec, work.adapter)
        terms = estimate.memory(work)
        self.base = terms["weights"] + terms["adapters"] + terms["optimizer"]
        self.gradients = terms["gradients"]
        if work.cuda:
            self.base += buffers.PRODUCT_WORKSPACE + buffers.margin_bytes(work, self.shape)
            if trained <= buffers.KEPT_GRADIENTS:
                self.base, self.gradients = self.base + self.gradients, 0
        self.head = terms["logits"]

    def bare(self, away: tuple[str, ...]) -> Chosen:
        """Offload the items `away` and recompute the others."""
        return self._chosen(self._start(away))

    def _start(self, away: tuple[str, ...]) -> list[dict[str, Choice]]:
        layers = range(self.work.spec.num_layers)
        return [{item: self._least(item, away) for item in self.bytes} for _ in layers]

    def _chosen(self, choices: list[dict[str, Choice]]) -> Chosen:
        schedule = _schedule(choices)
        host = sum(self.bytes[i] for c in choices for i in c if c[i] == "offload")
        return Chosen(schedule, self.peak(schedule), host, self.seconds(schedule))

    def fill(self, away: tuple[str, ...], budget: int) -> Chosen | None:
        """Offload the items `away`, then keep what fits."""
        choices = self._start(away)
        if self.peak(_schedule(choices)) > budget:
            return None
        order = sorted(
            (item for item in self.bytes if item != "input" or item in away),
            key=lambda item: (item in away, -self.again[item] / self.bytes[item], item),
        )
        for item in order:
            self._keep(choices, item, budget)
        return self._chosen(choices)

    def _keep(self, choices: list[dict[str, Choice]], item: str, budget: int) -> None:
        """Keep an item in as many layers as fit, the last layers first."""
        least = choices[0][item]
        low, high = 0, len(choices)
        while low < high:
            count = (low + high + 1) // 2
            _set(choices, item, least, count)
            if self.peak(_schedule(choices)) <= budget:
                low = count
            else:
                high = count - 1
        _set(choices, item, least, low)

    @staticmethod
    def _least(item: str, away: tuple[str, ...]) -> Choice:
        if item in away:
            return "offload"
        return "keep" if item == "input" else "recompute"

    def peak(self, schedule: Schedule) -> int:
        """The most bytes at any moment of a step."""
        work, shape = self.work, self.shape
        layer_gradients = self.gradients // max(1, work.spec.num_layers)
        small = buffers.small_bytes(work, shape)
        held = [
            small + sum(n for item, n in self.bytes.items() if layer.of(item) == "keep")
            for layer in schedule
        ]
        again = {
            item: n * any(layer.of(item) == "recompute" for layer in schedule)
            for item, n in self.bytes.items()
        }
        slots = sum(
            _SLOTS * n * any(layer.of(item) == "offload" for layer in schedule)
            for item, n in self.bytes.items()
        )
        shared = slots + sum(again.values())
        if overlays(schedule):
            shared -= min(again["mlp"], again["qkv"] + again["attention"])
        operands = buffers.operand_bytes(work, shape)
        # Before and after the final norm; then the gradient alone; for the head all of these, the
        # rows that it was given and their gradient.
        before, behind, between = (buffers.ends(work, count) for count in (2, 1, 5))
        forward = before + sum(held) + shared + operands + buffers.forward_scratch(work, shape)
        backward, rest, gradients = 0, sum(held), 0
        for n in reversed(held):
            gradients += layer_gradients
            backward = max(backward, rest + gradients)
            rest -= n
        backward += behind + shared + operands + buffers.backward_scratch(work, shape)
        return self.base + max(forward, backward, between + sum(held) + slots + self.head)

    def seconds(self, schedule: Schedule) -> float:
        """Time beyond that of keeping everything."""
        forward, backward = self.layer_seconds
        total = 0.0
        for layer in schedule:
            again = sum(self.again[i] for i in self.bytes if layer.of(i) == "recompute")
            away = sum(n for i, n in self.bytes.items() if layer.of(i) == "offload")
            copy = away / self.speeds.host_link
            late = max(0.0, copy - forward) + max(0.0, copy - backward - again)
            total += again + late + _NUISANCE * copy
        return total


def _set(choices: list[dict[str, Choice]], item: str, least: Choice, count: int) -> None:
    first = len(choices) - count
    for i, layer in enumerate(choices):
        layer[item] = "keep" if i >= first else least


def _schedule(choices: list[dict[str, Choice]]) -> Schedule:
    made: dict[tuple[tuple[str, Choice], ...], LayerSchedule] = {}
    layers = []
    for choice in choices:
        key = tuple(choice.items())
        if key not in made:
            made[key] = LayerSchedule(**choice)
        layers.append(made[key])
    return tuple(layers)


def _again(work: Work, shape: Shape, speeds: Speeds) -> dict[str, float]:
    """Item -> seconds to compute it once more in one layer."""
    h, b = work.spec.hidden_size, estimate.DTYPE_BYTES[work.compute_dtype]
    passes = work.tokens * h * b / speeds.memory

    def product(group: str) -> float:
        size = shape.outputs[group] * shape.inputs[group]
        return 2.0 * work.tokens * size / speeds.products + 2.5 * size / speeds.memory

    attention = 2.0 * work.tokens * work.longest * shape.inputs["o"] / speeds.attention
    sandwich = work.spec.sandwich_norms
    found = {
        "input": 0.0,
        "qkv": product("qkv") + 2 * passes,
        "attention": attention,
        "attention_out": product("o"),
        "middle": 4 * passes + (0 if sandwich else product("o")),
        "mlp": product("gate_up") + 2 * passes,
        "mlp_out": product("down"),
    }
    return {item: found[item] for item in shape.items}


def _layer_seconds(work: Work, speeds: Speeds) -> tuple[float, float]:
    """Forward and backward of one layer with everything kept."""
    size = sum(out * into for out, into in work.spec.layer_linears().values())
    products = 2.0 * work.tokens * size / speeds.products
    query = work.spec.num_heads * work.spec.head_dim
    attention = 2.0 * work.tokens * work.longest * query / speeds.attention
    return products + attention, products * (2 if work.full else 1) + 2.5 * attention
