"""Tensors moved to pinned host memory in the forward pass and back before backward needs them.

Copies run on a stream of their own, through two device slots for each item: while one is computed
into, the other one travels. Events order the two streams; the host waits for nothing. On the CPU
the copies are plain ones, so that the same path runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ftlab.planning.buffers import pinned_pieces

_SLOTS = 2


@dataclass(slots=True)
class _Slot:
    tensor: Tensor
    layer: int = -1  # whose values lie here
    copied: Any = None  # event: the last copy out of or into it is done
    used: Any = None  # event: the computation that read it is done


@dataclass
class Offload:
    """The host side of one pass; reused by later ones."""

    device: torch.device
    host: dict[tuple[int, str], list[Tensor]] = field(default_factory=dict)  # pieces, in order
    slots: dict[tuple[str, int], _Slot] = field(default_factory=dict)
    stream: Any = None
    outgrown: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.device.type == "cuda":
            self.stream = torch.cuda.Stream(self.device)  # type: ignore[no-untyped-call]

    def slot(self, layer: int, item: str, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
        """Where the forward pass computes an item that will leave the device."""
        key = (item, layer % _SLOTS)
        if key not in self.slots:
            made = torch.empty(rows, columns, dtype=dtype, device=self.device)
            self.slots[key] = _Slot(made)
        found = self.slots[key]
        self._main_waits(found.copied)
        found.layer = layer
        return found.tensor

    def send(self, layer: int, item: str) -> None:
        """Copy a computed item to the host."""
        slot = self.slots[item, layer % _SLOTS]
        pieces = self._host(layer, item, slot.tensor)
        if self.stream is None:
            for host, part in pieces:
                host.copy_(part)
            return
        self.stream.wait_event(_now())
        with torch.cuda.stream(self.stream):
            for host, part in pieces:
                host.copy_(part, non_blocking=True)
            slot.copied = _now()

    def fetch(self, layer: int, item: str) -> None:
        """Begin to copy an item back, unless it still lies in its slot."""
        slot = self.slots[item, layer % _SLOTS]
        if slot.layer == layer:
            return
        slot.layer = layer
        pieces = self._host(layer, item, slot.tensor)
        if self.stream is None:
            for host, part in pieces:
                part.copy_(host)
            return
        if slot.used is not None:
            self.stream.wait_event(slot.used)
        with torch.cuda.stream(self.stream):
            for host, part in pieces:
                part.copy_(host, non_blocking=True)
            slot.copied = _now()

    def take(self, layer: int, item: str) -> Tensor:
        """The item on the device, for computations that come after this call."""
        self.fetch(layer, item)
        slot = self.slots[item, layer % _SLOTS]
        self._main_waits(slot.copied)
        return slot.tensor

    def release(self, layer: int, item: str) -> None:
        """The backward pass of the layer has read the item."""
        if self.stream is not None:
            self.slots[item, layer % _SLOTS].used = _now()

    def join(self) -> None:
        """Order what follows behind every copy."""
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)
        for slot in self.slots.values():
            slot.copied = slot.used = None  # of a captured graph, which the next cannot wait for

    def end(self) -> None:
        """The pass is over: device memory goes back, host memory stays."""
        self.join()
        self.slots.clear()

    def nbytes(self) -> int:
        """Pinned host bytes."""
        pieces = (piece for pieces in self.host.values() for piece in pieces)
        return sum(piece.numel() * piece.element_size() for piece in pieces)

    def _host(self, layer: int, item: str, slot: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Pieces of host memory, each beside the part of the slot that goes there.

        Captured graphs go on to copy where they were told to, so nothing that was outgrown is
        given up.
        """
        flat = slot.view(-1)
        each = slot.element_size()
        parts = flat.split_with_sizes([size // each for size in pinned_pieces(slot.numel() * each)])
        held = self.host.setdefault((layer, item), [])
        for i, part in enumerate(parts):
            known = held[i] if i < len(held) else None
            if known is not None and known.numel() >= len(part) and known.dtype == part.dtype:
                continue
            made = torch.empty(len(part), dtype=part.dtype, pin_memory=self.stream is not None)
            if known is None:
                held.append(made)
            else:
                self.outgrown.append(known)
                held[i] = made
        return [(host[: len(part)], part) for host, part in zip(held, parts, strict=False)]

    def _main_waits(self, event: Any) -> None:
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)


def _now() -> Any:
    event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
    event.record()
    return event
