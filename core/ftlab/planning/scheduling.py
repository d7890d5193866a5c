"""Memory of a step as it will run: by the engine's schedule on a GPU, by formula on the CPU.

On a GPU `memory.checkpointing` off keeps every tensor; on, or chosen automatically, it stands for
the fastest schedule within the budget. The bits are the same whatever is chosen.
"""

from __future__ import annotations

from ftlab import estimate
from ftlab.estimate import GIB, Work
from ftlab.facts import Machine
from ftlab.planning import memory
from ftlab.planning.draft import Draft
from ftlab.planning.memory import Chosen
from ftlab.planning.schedule import KEEP_ALL, tile_of, to_text, uniform
from ftlab.planning.words import size


def pinnable(machine: Machine, ranks: int = 1) -> int:
    """Bytes of host memory that each process of a run may pin.

    Pinned pages cannot be swapped, so half of what is free; all but 32 GiB where that is more.
    """
    free = machine.memory_free_bytes
    return max(free // 2, free - 32 * GIB) // ranks


def step_memory(work: Work, budget: int | None) -> dict[str, int]:
    """Term -> bytes at the peak of a step; `budget` None asks for the least."""
    if not work.cuda:
        return estimate.memory(work)
    chosen = schedule_of(work, budget) or schedule_of(work, None)
    assert chosen is not None
    return terms(work, chosen)


def schedule_of(work: Work, budget: int | None) -> Chosen | None:
    """What the engine will do on a GPU; None where nothing fits the budget."""
    if not work.checkpointing:
        schedule = uniform(work.spec.num_layers, KEEP_ALL)
        return Chosen(schedule, memory.predicted(work, schedule), 0, 0.0)
    if budget is None:
        return memory.least(work)
    return memory.fastest(work, budget - estimate.cuda_context(work))


def terms(work: Work, chosen: Chosen) -> dict[str, int]:
    """The peak by term; activations are what the other terms leave of it."""
    own = estimate.memory(work)
    fixed = ("weights", "adapters", "gradients", "optimizer")
    rest = max(0, chosen.peak - sum(own[term] for term in fixed))
    logits = min(own["logits"], rest)
    return {
        **{term: own[term] for term in fixed},
        "activations": rest - logits,
        "logits": logits,
        "context": estimate.cuda_context(work),
    }


def decide_schedule(draft: Draft, work: Work, budget: int) -> None:
    """Record the schedule of a run on a GPU, with what it costs."""
    if not work.cuda:
        return
    chosen = schedule_of(work, budget)
    if chosen is None:
        return  # the fit was refused
    milliseconds = 1000 * chosen.seconds
    if chosen.seconds:
        reason = f"the fastest that fits: about {milliseconds:.0f} ms a micro-batch more than room"
        reason += " for everything would allow"
    else:
        reason = "everything that backward needs is kept"
    if chosen.host:
        reason += f"; {size(chosen.host)} of pinned host memory"
    draft.decide("memory_schedule", to_text(chosen.schedule), reason)
    rows = tile_of(chosen.schedule)
    if rows:
        reason = f"tokens of a layer at a time, of {work.tokens:,}: {_why_tiles(work, budget)}"
        draft.decide("memory_tile", rows, reason)


def _why_tiles(work: Work, budget: int) -> str:
    whole = memory.fastest(work, budget - estimate.cuda_context(work), tile=0)
    if whole is not None:
        return "all at once would leave less room for what backward needs, and take longer"
    least = memory.least(work, tile=0).peak + estimate.cuda_context(work)
    return f"all at once needs {size(least)}"
