"""Direct preference optimisation (Rafailov et al., 2023), sigmoid loss.

    margin = [log p(chosen) - log ref(chosen)] - [log p(rejected) - log ref(rejected)]
    loss   = -(1 - e) log sigmoid(beta margin) - e log sigmoid(-beta margin)

averaged over pairs; log-probabilities are sums over completion tokens. e > 0 is conservative DPO
(Mitchell, 2023): the assumed share of swapped labels. The reference is the same weights with the
adapter off, or numbers computed before the first step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from ftlab.data.batches import Step
    from ftlab.models.engine import Decoder, StepRng
    from ftlab.train.batch import Batch


class Reference(Protocol):
    """Where the reference's log-probabilities come from."""

    def __call__(self, model: Decoder, batch: Batch) -> Tensor:
        """Log-probabilities of chosen and rejected, fp32 [pairs, 2], without gradient."""
        ...


@dataclass(frozen=True, slots=True)
class Dpo:
    """The sigmoid preference loss.

    Args:
        beta: strength of the pull towards the reference.
        label_smoothing: assumed share of swapped labels.
        reference: gives log-probabilities of the frozen model.
        checkpointing: recompute activations in the backward pass.
    """

    beta: float
    reference: Reference
    label_smoothing: float = 0.0
    checkpointing: bool = False
    metrics: ClassVar[tuple[str, ...]] = (
        "rewards/chosen",
        "rewards/rejected",
        "rewards/margins",
        "rewards/accuracies",
        "logps/chosen",
        "logps/rejected",
    )

    def units(self, step: Step) -> int:
        """Pairs of the step."""
        return sum(len(micro.rows) for micro in step.micro)

    def loss(
        self, model: Decoder, batch: Batch, rng: StepRng | None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Summed preference loss of the pairs of `batch`, 0-d fp32."""
        reference = self.reference(model, batch)
        policy = pair_logprobs(model, batch, rng=rng, checkpointing=self.checkpointing)
        losses = preference_loss(policy, reference, self.beta, self.label_smoothing)
        return losses.sum(), _metrics(policy.detach(), reference, self.beta)


def adapter_off(model: Decoder, batch: Batch) -> Tensor:
    """The reference: the same weights in the same micro-batch with the adapter switched off."""
    with torch.no_grad():
        return pair_logprobs(model, batch, adapter=False)


def pair_logprobs(
    model: Decoder,
    batch: Batch,
    *,
    rng: StepRng | None = None,
    checkpointing: bool = False,
    adapter: bool = True,
) -> Tensor:
    """Summed log-probabilities of the trained tokens of each sequence, fp32 [pairs, 2].

    Column 0 is chosen, column 1 rejected.
    """
    logprobs = model.logprobs(batch.tokens, rng=rng, checkpointing=checkpointing, adapter=adapter)
    real = logprobs[: sum(batch.lengths)]
    sums = torch.stack([part.sum() for part in torch.split(real, list(batch.lengths))])
    return sums.view(-1, 2)


def preference_loss(
    policy: Tensor, reference: Tensor, beta: float, label_smoothing: float = 0.0
) -> Tensor:
    """Loss of each pair, fp32 [pairs], from log-probabilities [pairs, 2]."""
    ratios = policy - reference
    logits = beta * (ratios[:, 0] - ratios[:, 1])
    right, swapped = F.logsigmoid(logits), F.logsigmoid(-logits)
    return -right * (1 - label_smoothing) - swapped * label_smoothing


def _metrics(policy: Tensor, reference: Tensor, beta: float) -> tuple[Tensor, ...]:
    """Sums over pairs, in the order of `Dpo.metrics`; names and meaning are TRL's."""
    rewards = beta * (policy - reference)
    margins = rewards[:, 0] - rewards[:, 1]
    columns = (*rewards.unbind(1), margins, (margins > 0).float(), *policy.unbind(1))
    return tuple(column.sum() for column in columns)
