"""Decide how many processes train and on which GPUs; refuse more than the steps can feed.

Every process does a part of each step and all make the same update, so their cards must be alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from ftlab.facts import Gpu
from ftlab.planning.draft import Draft
from ftlab.planning.types import WORLD_SIZE

ON_CPU = "launch.devices: [] with launch.processes trains on the CPU"


def some_gpus(draft: Draft, count: int, oldest: tuple[int, int], why_none: str) -> list[Gpu]:
    """The first `count` GPUs of one kind; refuses where there are fewer."""
    gpus = [gpu for gpu in draft.facts.machine.gpus if gpu.capability >= oldest]
    for first in gpus:
        alike = [gpu for gpu in gpus if gpu.name == first.name]
        if len(alike) >= count:
            chosen = alike[:count]
            kind = f"{count} x {first.name}" if count > 1 else first.name
            draft.decide("launch.devices", [gpu.index for gpu in chosen], kind)
            return chosen
    kinds = {gpu.name: sum(other.name == gpu.name for other in gpus) for gpu in gpus}
    have = ", ".join(f"{n} x {name}" for name, n in kinds.items())
    hint = f"there are {have}; ask for no more of one kind" if have else f"{why_none}; {ON_CPU}"
    draft.refuse_here("launch.devices", f"{_gpus(count)} were asked for", hint)
    return gpus[:1]


def these_gpus(draft: Draft, wanted: Sequence[int], why_none: str) -> list[Gpu]:
    """The GPUs of these indices; refuses one that does not exist, and unlike ones."""
    by_index = {gpu.index: gpu for gpu in draft.facts.machine.gpus}
    for index in wanted:
        if index not in by_index:
            have = f"there are {sorted(by_index)}" if by_index else why_none
            draft.refuse_here("launch.devices", f"there is no GPU {index}", have)
    chosen = [by_index[index] for index in wanted if index in by_index]
    if len({gpu.name for gpu in chosen}) > 1:
        named = ", ".join(f"{gpu.index}: {gpu.name}" for gpu in chosen)
        draft.refuse_here(
            "launch.devices",
            f"unlike GPUs would come to unlike weights ({named})",
            "name GPUs of one kind",
        )
    return chosen


def decide_world(draft: Draft, chosen: Sequence[Gpu]) -> None:
    """Record how many processes train, where there are several."""
    count = len(chosen) or draft.config.launch.processes
    if count < 2:
        return
    each = "one for each GPU" if chosen else "launch.processes says so"
    draft.decide(WORLD_SIZE, count, f"{each}; every step is shared among them")


def check_shares(draft: Draft) -> None:
    """Refuse a step that has fewer micro-batches than there are processes."""
    train, count = draft.config.train, draft.world_size
    if count == 1 or train.micro_batch_size == "auto" or draft.config.data.packing is True:
        return  # a packed step is laid out for that many
    micro = int(train.micro_batch_size)
    made = -(-train.batch_size // micro)
    if made >= count:
        return
    largest = train.batch_size // count
    if not largest:
        return  # the rules say it: fewer rows than processes
    draft.refuse_config(
        "train.micro_batch_size",
        f"a step of {train.batch_size} rows makes {made} micro-batch(es) of {micro}, and "
        f"{count} processes need one each",
        f"lower it to {largest}, raise train.batch_size to {count * micro}, or train on {made}",
    )


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
