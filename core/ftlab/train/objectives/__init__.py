"""What is minimised. An objective knows one micro-batch; the loop knows everything else.

`loss` returns sums, not means: the loop divides by the units of the whole optimizer step, so that
accumulating micro-batches equals one big batch, however they are cut.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol

from torch import Tensor

if TYPE_CHECKING:
    from ftlab.data.batches import Step
    from ftlab.models.engine import Decoder, StepRng
    from ftlab.train.batch import Batch


class Objective(Protocol):
    """A loss over trained tokens (SFT) or pairs (DPO)."""

    metrics: ClassVar[tuple[str, ...]]  # names of what `loss` reports besides the loss

    def units(self, step: Step) -> int:
        """What the loss of an optimizer step is averaged over: its trained tokens, or its pairs."""
        ...

    def loss(
        self, model: Decoder, batch: Batch, rng: StepRng | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Sum of the loss over the units of `batch` (0-d fp32), and sums of `metrics`, detached."""
        ...
