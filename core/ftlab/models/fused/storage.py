"""Where the tensors of a pass live between forward and backward, as the schedule says."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from ftlab.models.fused.offload import Offload
from ftlab.models.fused.workspace import Workspace
from ftlab.planning.schedule import Schedule, overlays, tile_of


@dataclass(slots=True)
class Small:
    """What a layer always keeps: statistics and x A^T, a few bytes for each token."""

    stats: dict[str, Tensor] = field(default_factory=dict)
    low: dict[str, Tensor] = field(default_factory=dict)


class Storage:
    """The kept tensors of one pass; `keeps` False (no gradient) keeps none."""

    def __init__(
        self,
        schedule: Schedule,
        items: tuple[str, ...],
        scratch: Workspace,
        offload: Offload | None,
        *,
        keeps: bool,
    ) -> None:
        self.schedule = schedule
        self.items = items
        self.scratch = scratch
        self.offload = offload
        self.keeps = keeps
        self.small = [Small() for _ in schedule]
        self._kept: dict[tuple[int, str], Tensor] = {}
        self._overlays = overlays(schedule) and not tile_of(schedule)
        self._behind = 0  # elements before attention in the joint arena
        self._moved = [
            [item for item in items if keeps and layer.of(item) == "offload"] for layer in schedule
        ]

    def stays(self, layer: int, item: str) -> bool:
        """Whether what the forward pass makes is there for the backward pass."""
        return self.keeps and self.schedule[layer].of(item) != "recompute"

    def destination(self, layer: int, item: str, rows: int, columns: int) -> Tensor:
        """Where the forward pass writes an item [rows, columns]."""
        choice = self.schedule[layer].of(item)
        if not self.stays(layer, item):
            if self._overlays and item in ("qkv", "attention", "mlp"):
                return self._overlaid(item, rows, columns)
            name = item if item != "input" else f"input{layer % 2}"
            return self.scratch.get(name, rows, columns)
        if choice == "offload":
            assert self.offload is not None
            return self.offload.slot(layer, item, rows, columns, self.scratch.dtype)
        made = self.scratch.new(rows, columns)
        self._kept[layer, item] = made
        return made

    def _overlaid(self, item: str, rows: int, columns: int) -> Tensor:
        """q, k, v and behind them attention; gate and up over both: see `overlays`."""
        if item == "qkv":
            self._behind = rows * columns
        first = self._behind if item == "attention" else 0
        return self.scratch.arena("again", rows, columns, first)

    def adopt(self, layer: int, item: str, tensor: Tensor) -> Tensor:
        """Take a tensor that exists already (the embedding's output); it, or a copy that leaves."""
        if self.keeps and self.schedule[layer].of(item) == "offload":
            return self.destination(layer, item, *tensor.shape).copy_(tensor)
        if self.keeps:
            self._kept[layer, item] = tensor
        return tensor

    def send(self, layer: int, item: str) -> None:
        """The item is computed: let it leave where the schedule says so."""
        if item in self._moved[layer] and (layer, item) not in self._kept:
            assert self.offload is not None
            self.offload.send(layer, item)

    def fetch(self, layer: int) -> None:
        """Begin to bring back what a layer's backward pass will ask for."""
        for item in self._away(layer):
            assert self.offload is not None
            self.offload.fetch(layer, item)

    def find(self, layer: int, item: str) -> Tensor | None:
        """The item on the device; None where it is to be computed again."""
        if item not in self.items or self.schedule[layer].of(item) == "recompute":
            return None
        held = self._kept.get((layer, item))
        if held is not None:
            return held
        assert self.offload is not None
        return self.offload.take(layer, item)

    def release(self, layer: int) -> None:
        """Backward is through with a layer."""
        for item in self.items:
            self._kept.pop((layer, item), None)
        for item in self._away(layer):
            assert self.offload is not None
            self.offload.release(layer, item)
        self.small[layer] = Small()

    def _away(self, layer: int) -> list[str]:
        if not 0 <= layer < len(self._moved):
            return []
        return [item for item in self._moved[layer] if (layer, item) not in self._kept]
