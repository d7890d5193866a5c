"""A hook that measures how fast the run is, for the plans of later ones."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from ftlab.estimate import Work
from ftlab.facts import Speed
from ftlab.planning import measured, timing
from ftlab.planning.timing import Amount

if TYPE_CHECKING:
    from ftlab.train.loop import StepResult

WARM = 3  # steps that compile or capture
LEAST = 5  # measured steps that a speed is taken from


class Pace:
    """Notes operations a second of every step.

    Args:
        device: name of the card, or of the processor.
        work: a micro-batch as the plan sees it.
        mean_length: tokens of a sequence.
        reference_passes: forward passes of the frozen model over every batch.
        ranks: devices that share a step; the speed is that of one.
    """

    def __init__(
        self,
        device: str,
        work: Work,
        mean_length: float,
        reference_passes: int = 0,
        ranks: int = 1,
    ) -> None:
        self.device, self.work, self.ranks = device, work, ranks
        self.mean_length, self.reference_passes = mean_length, reference_passes
        self.rates: list[float] = []
        self._steps = 0

    def begin(self, step: int) -> None:
        """Nothing is known yet."""

    def after_step(self, result: StepResult) -> None:
        """Count one step."""
        self._steps += 1
        if self._steps <= WARM or result.seconds <= 0:
            return
        amount = Amount(
            tokens=result.tokens,
            trained_tokens=result.trained_tokens,
            mean_length=self.mean_length,
            micro_batches=1,
            reference_passes=self.reference_passes,
        )
        self.rates.append(timing.operations(self.work, amount) / result.seconds / self.ranks)

    def remember(self) -> None:
        """Keep the median for later plans, where enough was measured."""
        if len(self.rates) < LEAST:
            return
        work = self.work
        measured.remember(
            Speed(
                device=self.device,
                precision=work.precision,
                compute_dtype=work.compute_dtype,
                parameters=work.spec.parameters(),
                tokens=work.tokens,
                rate=statistics.median(self.rates),
            )
        )
