"""Less memory by another schedule: clearly less, nothing where nothing is left to give."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from ftlab.models.engine import Decoder
from ftlab.plan import Plan
from ftlab.planning.schedule import KEEP_ALL, RECOMPUTE_ALL, LayerSchedule, uniform
from ftlab.planning.types import Decision
from ftlab.train.replan import smaller

Plans, Decoders = Callable[..., Plan], Callable[..., Decoder]


def automatic(plan: Plan) -> Plan:
    """The same plan, its checkpointing chosen and not asked for."""
    chosen = Decision(plan.config.memory.checkpointing, "it fits")
    return dataclasses.replace(plan, decisions={**plan.decisions, "memory.checkpointing": chosen})


def test_less_is_kept_than_before(plan_of: Plans, small_decoder: Decoders) -> None:
    decoder = small_decoder()
    chosen = smaller(automatic(plan_of("sft")), decoder, 4096, 512)
    assert chosen is not None
    assert chosen.schedule != uniform(decoder.spec.num_layers, KEEP_ALL)
    decoder.schedule = chosen.schedule
    further = smaller(automatic(plan_of("sft")), decoder, 4096, 512)
    assert further is None or further.peak < chosen.peak


def test_what_was_asked_for_stays(plan_of: Plans, small_decoder: Decoders) -> None:
    plan = plan_of("sft", memory={"checkpointing": "off"})
    assert "memory.checkpointing" not in plan.decisions
    assert smaller(plan, small_decoder(), 4096, 512) is None


def test_the_least_has_nothing_below_it(plan_of: Plans, small_decoder: Decoders) -> None:
    decoder = small_decoder()
    least = dataclasses.replace(RECOMPUTE_ALL, input="offload")
    assert isinstance(least, LayerSchedule)
    decoder.schedule = uniform(decoder.spec.num_layers, least)
    chosen = smaller(automatic(plan_of("sft")), decoder, 4096, 512)
    assert chosen is None or chosen.peak > 0
