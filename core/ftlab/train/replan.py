"""Out of memory in the rehearsal of the largest micro-batch: once more, with less kept.

Only the schedule of activations changes, and every schedule of as many rows at a time gives the
same bits: the plan, its hash and the result stay what they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ftlab.estimate import Work
from ftlab.planning import memory
from ftlab.planning.memory import Chosen
from ftlab.planning.schedule import KEEP_ALL, RECOMPUTE_ALL, tile_of, uniform
from ftlab.planning.scheduling import pinnable
from ftlab.planning.shapes import padded_tokens

if TYPE_CHECKING:
    from ftlab.models.engine import Decoder
    from ftlab.plan import Plan

SHARE = 0.85  # of the peak that was predicted and did not fit


def smaller(plan: Plan, model: Decoder, tokens: int, longest: int) -> Chosen | None:
    """The fastest schedule whose predicted peak is clearly below that of the present one.

    Args:
        tokens: of the largest micro-batch.
        longest: tokens of its longest sequence, at most.

    Returns:
        None where nothing less can be kept, or where the config asks for all to be kept.
    """
    config = plan.config
    if config.memory.checkpointing == "off" and "memory.checkpointing" not in plan.decisions:
        return None
    work = Work(
        spec=model.spec, adapter=config.adapter, precision=config.model.precision,
        compute_dtype=str(plan.decided("compute_dtype")), optimizer=config.optim.name,
        tokens=padded_tokens(tokens), longest=longest, checkpointing=True, cuda=True,
        host=pinnable(plan.facts.machine, plan.world_size), ranks=plan.world_size,
    )  # fmt: skip
    layer = RECOMPUTE_ALL if config.memory.checkpointing == "on" else KEEP_ALL
    schedule = model.schedule or uniform(model.spec.num_layers, layer)
    present, tile = memory.predicted(work, schedule), tile_of(schedule)
    floor = memory.least(work, tile=tile).peak
    chosen = memory.fastest(work, max(floor, int(present * SHARE)), tile=tile)
    return chosen if chosen is not None and chosen.peak < present else None
