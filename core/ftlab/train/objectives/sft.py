"""Supervised fine-tuning: cross-entropy of the trained tokens.

    loss = sum over trained tokens t of -log p(t | before t), averaged over a step's trained tokens

With label smoothing e the target is (1 - e) on the token and e spread over the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

if TYPE_CHECKING:
    from ftlab.data.batches import Step
    from ftlab.models.engine import Decoder, StepRng
    from ftlab.train.batch import Batch


@dataclass(frozen=True, slots=True)
class Sft:
    """Token-weighted cross-entropy.

    Args:
        label_smoothing: share of the target that is spread over the whole vocabulary.
        checkpointing: recompute activations in the backward pass.
    """

    label_smoothing: float = 0.0
    checkpointing: bool = False
    metrics: ClassVar[tuple[str, ...]] = ()

    def units(self, step: Step) -> int:
        """Trained tokens of the step."""
        return step.trained_tokens

    def loss(
        self, model: Decoder, batch: Batch, rng: StepRng | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Summed cross-entropy of the trained tokens of `batch`, 0-d fp32."""
        losses = model.losses(
            batch.tokens,
            rng=rng,
            checkpointing=self.checkpointing,
            label_smoothing=self.label_smoothing,
        )
        return losses.sum(), ()
