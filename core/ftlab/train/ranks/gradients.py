"""The sum of all ranks' gradients in a fixed order, so that its bits depend on nothing else.

An all-reduce adds in an order that the library chooses for the machine. Here every rank adds up one
share of each piece, rank 0's part first, and hands the sum to the others: the same bytes sent as by
a ring, the same bits on any machine, and for two ranks with a micro-batch each the very sum of one
process that computes both.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from ftlab.planning.exchange import PIECE


class OrderedSum:
    """Adds up gradients of `size` ranks, at most `piece` numbers at once."""

    def __init__(self, size: int, piece: int = PIECE) -> None:
        self.size = size
        self.piece = -(-piece // size) * size
        self._room: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    def __call__(self, gradients: Iterable[Tensor]) -> None:
        """Replace every gradient by the sum over ranks; all ranks give the same shapes."""
        for parts in _pieces(gradients, self.piece):
            self._add(parts)

    def reserve(self, gradients: Iterable[Tensor]) -> None:
        """Take the room that the exchange will need."""
        for parts in _pieces(gradients, self.piece):
            self._buffers(parts)

    def _add(self, parts: list[Tensor]) -> None:
        sizes = [part.numel() for part in parts]
        share = -(-sum(sizes) // self.size)
        send, received = (room[: share * self.size] for room in self._buffers(parts))
        views = list(torch.split(send[: sum(sizes)], sizes))
        torch._foreach_copy_(views, parts)
        send[sum(sizes) :].zero_()
        dist.all_to_all_single(received, send)
        of_rank = list(torch.split(received, share))
        total = of_rank[0]
        for other in of_rank[1:]:
            total.add_(other)
        dist.all_gather_into_tensor(send, total)
        torch._foreach_copy_(parts, views)

    def _buffers(self, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Two buffers for the largest piece seen so far."""
        key = parts[0].dtype, parts[0].device
        need = -(-sum(part.numel() for part in parts) // self.size) * self.size
        held = self._room.get(key)
        if held is None or len(held[0]) < need:
            held = self._room[key] = parts[0].new_empty(need), parts[0].new_empty(need)
        return held


def _pieces(gradients: Iterable[Tensor], limit: int) -> Iterator[list[Tensor]]:
    """Flat parts of gradients, of one dtype and together at most `limit` numbers."""
    parts: list[Tensor] = []
    room = limit
    for gradient in gradients:
        rest = gradient.view(-1)
        while len(rest):
            if parts and (not room or parts[0].dtype != rest.dtype):
                yield parts
                parts, room = [], limit
            parts.append(rest[:room])
            rest, room = rest[room:], room - len(parts[-1])
    if parts:
        yield parts
