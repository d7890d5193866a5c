"""What each layer does with each tensor that its backward pass needs: keep, recompute, offload.

Standard library only; made from shapes and a budget by `planning.memory`, carried out by
`models.fused`. Every schedule gives the same bits: a second computation repeats the first one. Only
the number of rows that are taken at a time is part of the bits, because sums over tokens are then
sums over tiles.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Choice = Literal["keep", "recompute", "offload"]

# In the order of the forward pass; T tokens, H hidden, Q and K features of queries and keys.
ITEMS = (
    "input",  # [T, H] the residual stream before attention; never recomputed
    "qkv",  # [T, Q + 2 K] queries, keys and values
    "attention",  # [T, Q] what attention gives
    "attention_out",  # [T, H] after the o projection, where a norm follows it (Gemma 2 and 3)
    "middle",  # [T, H] the residual stream before the MLP
    "mlp",  # [T, 2 I] gate and up
    "mlp_out",  # [T, H] after the down projection, where a norm follows it
)
NORMED_OUTPUTS = ("attention_out", "mlp_out")


def items_of(sandwich_norms: bool) -> tuple[str, ...]:
    """The items that a family's layers have."""
    return tuple(item for item in ITEMS if sandwich_norms or item not in NORMED_OUTPUTS)


@dataclass(frozen=True, slots=True)
class LayerSchedule:
    """The choice for each item of one layer."""

    input: Choice = "keep"
    qkv: Choice = "keep"
    attention: Choice = "keep"
    attention_out: Choice = "keep"
    middle: Choice = "keep"
    mlp: Choice = "keep"
    mlp_out: Choice = "keep"
    tile: int = 0  # rows taken at a time, where only attention sees them all; 0: all at once

    def __post_init__(self) -> None:
        if self.input == "recompute":
            raise ValueError("the input of a layer cannot be recomputed from the layer")
        if self.tile < 0:
            raise ValueError(f"a tile of {self.tile} rows")

    def of(self, item: str) -> Choice:
        """The choice for an item by name."""
        choice: Choice = getattr(self, item)
        return choice


Schedule = tuple[LayerSchedule, ...]

KEEP_ALL = LayerSchedule()
RECOMPUTE_ALL = LayerSchedule(
    "keep", "recompute", "recompute", "recompute", "recompute", "recompute", "recompute"
)


def uniform(layers: int, choice: LayerSchedule) -> Schedule:
    """The same choice for every layer."""
    return (choice,) * layers


def tile_of(schedule: Schedule) -> int:
    """Rows that every layer takes at a time; 0: all at once."""
    found = {layer.tile for layer in schedule}
    if len(found) != 1:
        raise ValueError(f"layers that take {sorted(found)} rows at a time cannot share buffers")
    return found.pop()


def overlays(schedule: Schedule) -> bool:
    """Whether recomputed q, k, v and attention may lie where recomputed gate and up do.

    The MLP's backward pass is over before attention's begins, and needs nothing of attention where
    the stream before the MLP is not computed again.
    """
    return all(layer.middle != "recompute" for layer in schedule)


def to_text(schedule: Sequence[LayerSchedule]) -> str:
    """Runs of equal layers as COUNT*WORD: a letter an item, k, r or o in the order of ITEMS.

    Where rows are taken some at a time, their number follows: COUNT*WORD/ROWS.
    """
    words = [
        "".join(layer.of(item)[0] for item in ITEMS) + (f"/{layer.tile}" if layer.tile else "")
        for layer in schedule
    ]
    return " ".join(f"{len(list(run))}*{word}" for word, run in itertools.groupby(words))


def from_text(text: str) -> Schedule:
    """The inverse of `to_text`. Raises ValueError for anything else."""
    letters: dict[str, Choice] = {"k": "keep", "r": "recompute", "o": "offload"}
    layers: list[LayerSchedule] = []
    for part in text.split():
        count, _, rest = part.partition("*")
        word, slash, tile = rest.partition("/")
        numbers = count.isdigit() and (tile.isdigit() if slash else True)
        if not numbers or len(word) != len(ITEMS) or set(word) - set(letters):
            raise ValueError(f"{part!r} is not COUNT*{len(ITEMS)} letters out of k, r, o")
        chosen = {item: letters[c] for item, c in zip(ITEMS, word, strict=True)}
        layers += [LayerSchedule(**chosen, tile=int(tile or 0))] * int(count)
    return tuple(layers)
