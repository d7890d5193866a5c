"""The fastest schedule that fits a byte budget, with its predicted peak: a pure function.

Each layer keeps, recomputes or offloads each tensor that backward needs (`planning.schedule`). The
peak lies where the backward pass begins, or in a layer further back when gradients weigh more than
what is freed. Offloading costs nothing while its copies hide behind a layer's computation;
recomputing costs the products it repeats. For each set of offloaded items the rest is recomputed,
and the bytes left are spent on keeping what costs most a byte, the last layers first. Rows of long
micro-batches are taken some at a time (`planning.tiles`) where nothing else fits or that is faster.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ftlab import estimate
from ftlab.estimate import Work
from ftlab.planning import buffers, tiles
from ftlab.planning.buffers import Shape
from ftlab.planning.schedule import Choice, LayerSchedule, Schedule, overlays, tile_of

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


def fastest(
    work: Work, budget: int, speeds: Speeds | None = None, *, tile: int | None = None
) -> Chosen | None:
    """The schedule that adds least time and whose peak fits; None where none fits.

    Args:
        work: one micro-batch; its `checkpointing` is not looked at.
        budget: bytes on the device, without the CUDA context.
        tile: rows to take at a time, 0 for all; None takes what is best.
    """
    speeds = speeds or Speeds()
    if tile is not None:
        return _Model(work, speeds, tile).fastest(budget)
    # The tile is part of the bits: what is free on the device or the host has no say in it, unless
    # nothing fits.
    room = budget if work.room is None else work.room
    chosen = _tiled(replace(work, host=None), room, speeds)
    sizes = dict.fromkeys((tile_of(chosen.schedule) if chosen else 0, *tiles.choices(work), 0))
    found = (_Model(work, speeds, rows).fastest(budget) for rows in sizes)
    return next((fits for fits in found if fits is not None), None)


def _tiled(work: Work, budget: int, speeds: Speeds) -> Chosen | None:
    """All rows at once, or the largest tile that fits where that is clearly faster."""
    model = _Model(work, speeds, 0)
    best = model.fastest(budget)
    tiled = (_Model(work, speeds, rows).fastest(budget) for rows in tiles.choices(work))
    other = next((found for found in tiled if found is not None), None)
    if best is None or other is None:
        return best or other
    gain = tiles.GAIN * work.spec.num_layers * sum(model.layer_seconds)
    return other if other.seconds < best.seconds - gain else best


def predicted(work: Work, schedule: Schedule) -> int:
    """Bytes on the device at the peak of a step under a schedule, without the CUDA context."""
    return _Model(work, Speeds(), tile_of(schedule)).peak(schedule)


def least(work: Work, *, tile: int | None = None) -> Chosen:
    """The schedule of the smallest peak; `tile` as in `fastest`."""
    sizes: Sequence[int] = (0, *tiles.choices(work)) if tile is None else (tile,)
    found = [_Model(work, Speeds(), rows).least() for rows in sizes]
    return min(found, key=lambda chosen: (chosen.peak, chosen.seconds))


def _rank(chosen: Chosen) -> tuple[float, int, int]:
    return chosen.seconds, chosen.host, chosen.peak


class _Model:
    """Bytes and seconds of one kind of work, `tile` rows at a time (0: all at once)."""

    def __init__(self, work: Work, speeds: Speeds, tile: int) -> None:
        self.work, self.speeds, self.tile = work, speeds, tile
        self.shape: Shape = buffers.shape_of(work)
        self.bytes = buffers.item_bytes(work, self.shape)
        self.pinned = {item: buffers.pinned_bytes(n) for item, n in self.bytes.items()}
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

    def fastest(self, budget: int) -> Chosen | None:
        """The schedule that adds least time and whose peak fits the budget."""
        found = [chosen for away in self._sets() if (chosen := self.fill(away, budget)) is not None]
        return min(found, key=_rank, default=None)

    def least(self) -> Chosen:
        """The schedule of the smallest peak."""
        tried = [self._chosen(self._start(away)) for away in self._sets()]
        return min(tried, key=lambda chosen: (chosen.peak, chosen.seconds))

    def _sets(self) -> list[tuple[str, ...]]:
        """Every set of items that may be offloaded."""
        items = tuple(self.bytes)
        counts = range(len(items) + 1)
        return [away for count in counts for away in itertools.combinations(items, count)]

    def _start(self, away: tuple[str, ...]) -> list[dict[str, Choice]]:
        """The items `away` offloaded, as far as the host has room, and the others recomputed."""
        layers = self.work.spec.num_layers
        choices = [{item: self._least(item, away) for item in self.bytes} for _ in range(layers)]
        if self.work.host is None:
            return choices
        excess = self._host(choices) - self.work.host
        # The input goes last: what takes its place is kept, while others are computed again.
        for item in reversed(away):
            count = min(layers, -(-max(0, excess) // self.pinned[item]))
            for layer in choices[layers - count :]:
                layer[item] = self._least(item, ())
            excess -= count * self.pinned[item]
        return choices

    def _host(self, choices: list[dict[str, Choice]]) -> int:
        return sum(self.pinned[i] for c in choices for i in c if c[i] == "offload")

    def _chosen(self, choices: list[dict[str, Choice]]) -> Chosen:
        schedule = self._schedule(choices)
        return Chosen(schedule, self.peak(schedule), self._host(choices), self.seconds(schedule))

    def fill(self, away: tuple[str, ...], budget: int) -> Chosen | None:
        """Offload the items `away`, then keep what fits."""
        choices = self._start(away)
        if self.peak(self._schedule(choices)) > budget:
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
        least = [layer[item] for layer in choices]
        low, high = 0, len(choices)
        while low < high:
            count = (low + high + 1) // 2
            _set(choices, item, least, count)
            if self.peak(self._schedule(choices)) <= budget:
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
        return self.base + max(self.peaks(schedule))

    def peaks(self, schedule: Schedule) -> tuple[int, int, int]:
        """The most bytes beside the weights: in a forward pass, in a backward pass, at the head."""
        work, shape = self.work, self.shape
        again = {
            item: n * any(layer.of(item) == "recompute" for layer in schedule)
            for item, n in self.bytes.items()
        }
        # Layers take turns between two device buffers of each offloaded item.
        slots = sum(
            n * len({i % _SLOTS for i, layer in enumerate(schedule) if layer.of(item) == "offload"})
            for item, n in self.bytes.items()
        )
        common = slots + buffers.operand_bytes(work, shape)
        if self.tile:
            held = tiles.held_bytes(work, schedule, self.bytes)
            forward = sum(held) + tiles.forward_bytes(work, shape, schedule, again)
            backward = tiles.backward_bytes(work, shape, schedule)
            backward += self._deepest(held, tiles.made_again(schedule, self.bytes))
            head = sum(held) + slots + tiles.head_bytes(work, self.head)
            return common + forward, common + backward, head
        small = buffers.small_bytes(work, shape)
        held = [
            small + sum(n for item, n in self.bytes.items() if layer.of(item) == "keep")
            for layer in schedule
        ]
        common += sum(again.values())
        if overlays(schedule):
            common -= min(again["mlp"], again["qkv"] + again["attention"])
        # Before and after the final norm; then the gradient alone; for the head all of these, the
        # rows that it was given and their gradient.
        before, behind, between = (buffers.ends(work, count) for count in (2, 1, 5))
        forward = before + sum(held) + buffers.forward_scratch(work, shape)
        backward = (
            behind + self._deepest(held, [0] * len(held)) + buffers.backward_scratch(work, shape)
        )
        head = between + sum(held) + slots + self.head
        return common + forward, common + backward, head

    def _deepest(self, held: list[int], again: list[int]) -> int:
        """The most that layers hold during a backward pass, the gradients it has made included.

        Args:
            held: what each layer brings along.
            again: what has been made again when a layer is done.
        """
        layer_gradients = self.gradients // max(1, self.work.spec.num_layers)
        most, rest, gradients = 0, sum(held), 0
        for n, made in zip(reversed(held), reversed(again), strict=True):
            gradients += layer_gradients
            most = max(most, rest + gradients + made)
            rest -= n
        return most

    def _schedule(self, choices: list[dict[str, Choice]]) -> Schedule:
        made: dict[tuple[tuple[str, Choice], ...], LayerSchedule] = {}
        layers = []
        for choice in choices:
            key = tuple(choice.items())
            if key not in made:
                made[key] = LayerSchedule(**choice, tile=self.tile)
            layers.append(made[key])
        return tuple(layers)

    def seconds(self, schedule: Schedule) -> float:
        """Time beyond that of keeping everything."""
        forward, backward = self.layer_seconds
        tiled = tiles.seconds(self.work, self.speeds.memory) if self.tile else 0.0
        total = tiled * len(schedule)
        for layer in schedule:
            again = sum(self.again[i] for i in self.bytes if layer.of(i) == "recompute")
            away = sum(n for i, n in self.bytes.items() if layer.of(i) == "offload")
            copy = away / self.speeds.host_link
            late = max(0.0, copy - forward) + max(0.0, copy - backward - again)
            total += again + late + _NUISANCE * copy
        return total


def _set(choices: list[dict[str, Choice]], item: str, least: list[Choice], count: int) -> None:
    first = len(choices) - count
    for i, layer in enumerate(choices):
        layer[item] = "keep" if i >= first else least[i]


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
