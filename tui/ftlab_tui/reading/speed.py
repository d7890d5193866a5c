"""Model FLOP utilisation: what a run computes per second, against the peak of its GPUs.

The operations are those of the method (forward, backward, adapters, head); what checkpointing
computes a second time does not count. Without a GPU there is no peak, and the words say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ftlab.errors import FtlabError
from ftlab.estimate import Work
from ftlab.facts import Gpu
from ftlab.models.spec import DecoderSpec
from ftlab.plan import Plan
from ftlab.planning.timing import Amount, operations, peak
from ftlab.run import Run


@dataclass(frozen=True, slots=True)
class Speed:
    """How to turn a step's figures into MFU."""

    work: Work
    mean_length: float
    preference: bool
    peak: float | None  # operations per second
    against: str  # the peak in words

    def mfu(self, step: Mapping[str, Any]) -> float | None:
        """Share of the peak that a step reached, 0 to 1; None where it cannot be known."""
        tokens, seconds = step.get("tokens"), step.get("seconds")
        if not self.peak or not _positive(tokens) or not _positive(seconds):
            return None
        trained = step.get("trained_tokens")
        amount = Amount(
            tokens=int(tokens or 0),
            trained_tokens=int(trained or 0) if _positive(trained) else 0,
            mean_length=self.mean_length,
            micro_batches=1,
            reference_passes=int(self.preference),
        )
        return operations(self.work, amount) / float(seconds or 1) / self.peak


def read_plan(run: Run) -> Plan | None:
    """The plan of a run; None when it is missing, damaged or of an unknown shape."""
    try:
        return run.plan()
    except (FtlabError, TypeError, ValueError, KeyError, AttributeError):
        return None


def of(plan: Plan | None) -> Speed | None:
    """What MFU needs to know of a plan; None when the plan does not tell."""
    if plan is None:
        return None
    try:
        return _of(plan)
    except (TypeError, ValueError, KeyError, AttributeError, IndexError):
        return None


def cards_of(plan: Plan) -> list[Gpu]:
    """The GPUs that the plan trains on, as they were when the plan was made; [] is the CPU."""
    devices = plan.config.launch.devices
    if not isinstance(devices, (list, tuple)):
        return []
    by_index = {gpu.index: gpu for gpu in plan.facts.machine.gpus}
    return [by_index[index] for index in devices if index in by_index]


def _of(plan: Plan) -> Speed:
    config, data, cards = plan.config, plan.facts.data, cards_of(plan)
    card = cards[0] if cards else None
    dtype = str(plan.decided("compute_dtype"))
    sequences = max(1, data.rows * (2 if data.preference else 1))
    work = Work(
        spec=DecoderSpec.from_dict(plan.facts.model.spec),
        adapter=config.adapter,
        precision=config.model.precision,
        compute_dtype=dtype,
        optimizer=config.optim.name,
        tokens=1,
        longest=1,
        checkpointing=False,
        cuda=card is not None,
    )
    top = len(cards) * peak(card, dtype) if card is not None else None
    words = "no GPU, so no peak to measure against"
    if card is not None and top is not None:
        count = f"{len(cards)} x " if len(cards) > 1 else ""
        words = f"{top / 1e12:.0f} TFLOP/s, {count}{card.name} {dtype} dense"
    length = data.tokens / sequences if data.tokens else 0.0
    return Speed(work, length, config.method.kind == "dpo", top, words)


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and 0 < value < float("inf")
