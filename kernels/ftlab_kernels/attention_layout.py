"""Where sequences lie on the token axis, and the tables of tiles that attention's kernels walk.

A *segment* is a run of tokens; `prefix` names the earlier segment that it continues. The kernels
see *spans*: a prompt and its first continuation are one plain causal span, every further
continuation is a span of its own that also sees the prompt. So the work is the true number of
visible pairs.

A tile is one row of eight ints: first row, span start, span end, prefix start, prefix length,
and for keys the rows of further continuations (start, end) and the end of what these may see.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor

FIELDS = 8  # ints of one tile
LONG = 4096  # tokens; beyond, attention's kernels have block sizes of their own
FEW = 1024  # programs; up to so many the balance among multiprocessors decides


class Span(NamedTuple):
    """Rows that attend causally among themselves, and what else belongs to them."""

    start: int
    end: int
    prefix: tuple[int, int]  # rows that all of this span's queries see besides
    readers: tuple[int, int]  # rows of other spans that see this span's keys
    shared: int  # end of the keys that they see


class Tiles(NamedTuple):
    """What the programs of one kernel work on."""

    table: Tensor  # int32 [n, 8]; unused rows start at -1
    order: Tensor  # int32 [n * heads]: for each program tile * heads + head


@dataclass(frozen=True)
class Layout:
    """Segments of a batch; made once for all layers by `layout`. Tables are made at first use."""

    bounds: tuple[int, ...]  # [n + 1] from 0 to T
    prefix: tuple[int, ...] | None  # for each segment the one it continues, or -1
    device: torch.device
    capacity: int | None = None  # most segments that a batch of the same tables may have
    made: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def tokens(self) -> int:
        """Tokens of the batch."""
        return self.bounds[-1]

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of each segment."""
        return tuple(end - start for start, end in pairwise(self.bounds))

    @cached_property
    def shared(self) -> bool:
        """Whether any segment continues another one."""
        return self.prefix is not None and max(self.prefix) >= 0

    @cached_property
    def longest(self) -> int:
        """Most tokens that one token can see: the longest segment with what it continues."""
        return max(n + self.before(i) for i, n in enumerate(self.lengths))

    @cached_property
    def uniform(self) -> bool:
        """Whether all segments are equally long and none continues another."""
        return not self.shared and min(self.lengths) == max(self.lengths)

    def before(self, i: int) -> int:
        """Tokens of the segment that segment i continues."""
        parent = -1 if self.prefix is None else self.prefix[i]
        return 0 if parent < 0 else self.lengths[parent]

    @cached_property
    def spans(self) -> tuple[Span, ...]:
        """Spans in the order of their rows."""
        parents = self.prefix or (-1,) * len(self.lengths)
        found: list[Span] = []
        prompt = 0  # index in `found` of the span that holds the current prompt
        for i, parent in enumerate(parents):
            start, end = self.bounds[i], self.bounds[i + 1]
            if parent < 0:
                prompt = len(found)
                found.append(Span(start, end, (0, 0), (0, 0), 0))
            elif parent == i - 1:
                found[prompt] = found[prompt]._replace(end=end)
            else:
                root, limit = found[prompt], self.bounds[parent + 1]
                rows = (root.readers[0] or start, end)
                found[prompt] = root._replace(readers=rows, shared=limit)
                found.append(Span(start, end, (root.start, limit), (0, 0), 0))
        return tuple(found)

    def positions(self) -> Tensor:
        """int32 [T] on the device: the place of each token in its own sequence."""
        held: Tensor = self.once("positions", lambda: self._moved(_positions(self)))
        return held

    def queries(self, block: int, heads: int, kv_heads: int) -> Tiles:
        """Tiles of `block` queries, for each head."""
        key = ("queries", block, heads, kv_heads)
        held: Tiles = self.once(key, lambda: self._tiles(*key))
        return held

    def keys(self, block: int, kv_heads: int) -> Tiles:
        """Tiles of `block` keys, for each key head."""
        key = ("keys", block, kv_heads, kv_heads)
        held: Tiles = self.once(key, lambda: self._tiles(*key))
        return held

    def load(self, other: Layout) -> None:
        """Copy another batch's tables into this layout's buffers, for a captured graph.

        Raises ValueError where the two have not the same tokens and capacity.
        """
        mine, theirs = (self.tokens, self.capacity), (other.tokens, other.capacity)
        if self.capacity is None or mine != theirs:
            raise ValueError(f"layouts of (tokens, capacity) {mine} and {theirs} cannot be swapped")
        for key, held in self.made.items():
            if isinstance(held, Tiles):
                for target, source in zip(
                    held, other.once(key, partial(other._tiles, *key)), strict=True
                ):
                    target.copy_(source, non_blocking=True)
            elif key == "positions":
                held.copy_(other.positions(), non_blocking=True)

    def flops(self, heads: int, head_dim: int, window: int | None = None) -> int:
        """Floating-point operations of the two products of a forward pass; backward has five."""
        pairs = sum(_pairs(n, self.before(i), window) for i, n in enumerate(self.lengths))
        return 4 * heads * head_dim * pairs

    def once(self, key: Any, make: Callable[[], Any]) -> Any:
        """What `make` returns, made at the first call with this key."""
        if key not in self.made:
            self.made[key] = make()
        return self.made[key]

    def _tiles(self, kind: str, block: int, heads: int, kv_heads: int) -> Tiles:
        rows, work, owners = [], [], []
        for number, span in enumerate(self.spans):
            before = span.prefix[1] - span.prefix[0]
            for row in range(span.start, span.end, block):
                readers = span.readers if row < span.shared else (0, 0)
                rows.append(
                    (row, span.start, span.end, span.prefix[0], before, *readers, span.shared)
                )
                seen = before + min(row + block, span.end) - span.start
                seeing = span.end - row + readers[1] - readers[0]
                work.append(seen if kind == "queries" else seeing)
                owners.append(number)
        size = len(rows)
        if self.capacity is not None:
            size = self.tokens // block + self.capacity
        table = torch.full((size, FIELDS), -1, dtype=torch.int32)
        table[: len(rows)] = torch.tensor(rows, dtype=torch.int32)
        order = torch.arange(size * heads, dtype=torch.int32)
        order[: len(rows) * heads] = _order(work, owners, heads, kv_heads)
        return Tiles(self._moved(table), self._moved(order))

    def _moved(self, x: Tensor) -> Tensor:
        """On the device; from pinned memory, so that nothing waits."""
        if self.device.type != "cuda":
            return x.to(self.device)
        cuda: Any = torch.cuda  # without types in some releases
        if cuda.is_current_stream_capturing():
            # The copy would become part of the graph, and the host memory is not ours for long.
            with cuda.stream(cuda.Stream(self.device)):
                return x.to(self.device)
        return x.pin_memory().to(self.device, non_blocking=True)


def layout(
    cu_seqlens: Tensor | Sequence[int],
    device: torch.device | str = "cpu",
    *,
    prefix: Sequence[int] | None = None,
    capacity: int | None = None,
) -> Layout:
    """Describe a batch.

    Args:
        cu_seqlens: [n + 1] rising boundaries of the segments, from 0 to T. A tensor on the GPU is
            waited for, so keep it on the CPU.
        prefix: for each segment the index of the segment that it continues, or -1. The
            continuations of a prompt follow it directly: a packed pair of DPO is
            `[prompt, chosen, rejected]` with prefix `[-1, 0, 0]`.
        capacity: for CUDA graphs, the most segments of any batch; the tables' sizes then depend on
            T and capacity alone.

    Raises ValueError where the boundaries do not rise from 0, a prefix is not such a prompt, or
        there are more segments than capacity.
    """
    bounds = cu_seqlens.tolist() if isinstance(cu_seqlens, Tensor) else list(cu_seqlens)
    if len(bounds) < 2 or bounds[0] != 0 or any(b <= a for a, b in pairwise(bounds)):
        raise ValueError(f"cu_seqlens must rise from 0, got {bounds}")
    parents = None if prefix is None else tuple(prefix)
    if parents is not None:
        _check_prefix(parents, len(bounds) - 1)
    if capacity is not None and len(bounds) - 1 > capacity:
        raise ValueError(f"{len(bounds) - 1} segments do not fit a capacity of {capacity}")
    return Layout(tuple(bounds), parents, torch.device(device), capacity)


def _check_prefix(parents: tuple[int, ...], segments: int) -> None:
    if len(parents) != segments:
        raise ValueError(f"prefix names {len(parents)} segments, cu_seqlens has {segments}")
    prompt = -1
    for i, parent in enumerate(parents):
        if parent < 0:
            prompt = i
        elif parent != prompt:
            raise ValueError(
                f"segment {i} must continue the prompt before it ({prompt}) or be one (-1), "
                f"got {parent}"
            )


def _order(work: list[int], owners: list[int], heads: int, kv_heads: int) -> Tensor:
    """Programs by falling work, so that the last to start are short; coarsely where they are many.

    Then work is taken in halves of the longest, and within those the tiles that read the same rows
    (one span, one key head) follow each other, so that the L2 cache serves all but the first.
    """
    amounts, spans = torch.tensor(work), torch.tensor(owners)
    rank = amounts.argsort(descending=True, stable=True).argsort()
    head = torch.arange(heads)
    place = rank[:, None] * heads + head
    if len(work) * heads > FEW:
        halvings = torch.log2(amounts.max() / amounts).floor().long()
        owner = (halvings * (1 + spans.max()) + spans)[:, None]
        group = owner * kv_heads + head // (heads // kv_heads)
        place = group * (len(work) * heads) + place
    order: Tensor = place.flatten().argsort().to(torch.int32)
    return order


def _positions(plan: Layout) -> Tensor:
    parts = [
        torch.arange(plan.before(i), plan.before(i) + n, dtype=torch.int32)
        for i, n in enumerate(plan.lengths)
    ]
    return torch.cat(parts)


def _pairs(n: int, before: int, window: int | None) -> int:
    """Visible (query, key) pairs of n queries after `before` tokens."""
    full = n * before + n * (n + 1) // 2
    if window is None or window >= before + n:
        return full
    beyond = [before + i + 1 - window for i in (0, n - 1)]  # keys that first and last query miss
    first, last = max(beyond[0], 0), beyond[1]
    return full - (first + last) * (last - first + 1) // 2
