"""The only training loop: accumulate, check, clip, update, tell the hooks.

SFT and DPO are objectives, never loops. Logs, evaluation, checkpoints and requests are hooks, which
act between steps. The loop holds no random state and reads no clock that decides anything: a step
is a function of (trained state, step index), so a resumed run repeats the bits of a straight one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.optim.optimizer import Optimizer

from ftlab.errors import FtlabError
from ftlab.models.engine import StepRng
from ftlab.train.batch import to_device
from ftlab.train.numerics import LossScaler, clip_factor, global_norm, scale_gradients
from ftlab.train.optimizers import set_learning_rate

if TYPE_CHECKING:
    from ftlab.data.batches import BatchIndex, MicroBatch, Step
    from ftlab.models.engine import Decoder
    from ftlab.train.objectives import Objective
    from ftlab.train.schedules import Schedule


class NonFinite(FtlabError):
    """Loss or gradients are NaN or infinite. Raised before the update: no weight has changed."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """What one optimizer step did."""

    step: int  # finished steps, this one included: the first is 1
    epoch: float
    loss: float  # mean over the units of the step (trained tokens, or pairs)
    grad_norm: float  # before clipping; inf when fp16 gradients overflowed
    lr: float
    tokens: int
    trained_tokens: int
    batch_hash: int
    skipped: bool  # fp16 overflow: the loss scale was lowered and no weight changed
    seconds: float
    metrics: Mapping[str, float]


class Hook(Protocol):
    """Acts between steps. Raising `Interrupted` ends the run."""

    def begin(self, step: int) -> None:
        """Before the first step of this process; `step` steps are already done."""
        ...

    def after_step(self, result: StepResult) -> None:
        """After every step, in the order of the hooks."""
        ...


def fit(
    model: Decoder,
    objective: Objective,
    batches: BatchIndex,
    optimizer: Optimizer,
    schedule: Schedule,
    hooks: Sequence[Hook] = (),
    *,
    start: int = 0,
    max_grad_norm: float = 0.0,
    scaler: LossScaler | None = None,
    seed: int = 0,
) -> None:
    """Train from step `start` to the last step of `batches`.

    Args:
        schedule: learning rate of a step index.
        max_grad_norm: longer gradients are scaled down to it; 0 turns clipping off.
        scaler: loss scaling, for fp16 compute only.
        seed: of dropout, together with the step and the position.
    Raises:
        NonFinite: loss or gradients are not finite; the message names the rows.
        Interrupted: a hook ended the run after a save.
    """
    worker = _Worker(model, objective, optimizer, max_grad_norm, scaler, seed)
    for hook in hooks:
        hook.begin(start)
    model.train_mode()
    for index in range(start, batches.steps):
        step = batches.step(index)
        result = worker.run(step, schedule(index), (index + 1) / batches.steps_per_epoch)
        for hook in hooks:
            hook.after_step(result)


@dataclass(frozen=True, slots=True)
class _Worker:
    """Carries out single steps."""

    model: Decoder
    objective: Objective
    optimizer: Optimizer
    max_grad_norm: float
    scaler: LossScaler | None
    seed: int

    def run(self, step: Step, lr: float, epoch: float) -> StepResult:
        """Forward and backward over the micro-batches of `step`, then one update."""
        began = time.perf_counter()
        units = self.objective.units(step)
        losses, metrics = self._accumulate(step, units)
        gradients = [p.grad for p in self.model.trainable().values() if p.grad is not None]
        # The only wait for the device in a step: no update before all of this is known finite.
        sums, norm, totals = _read(losses, global_norm(gradients), metrics)
        scale = self.scaler.scale if self.scaler else 1.0
        norm /= scale
        self._refuse_non_finite(step, sums, norm)
        skipped = not math.isfinite(norm)
        if not skipped:
            scale_gradients(gradients, clip_factor(norm, self.max_grad_norm) / scale)
            set_learning_rate(self.optimizer, lr)
            self.optimizer.step()
        if self.scaler:
            self.scaler.update(overflow=skipped)
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(
            step=step.index + 1,
            epoch=epoch,
            loss=math.fsum(sums) / units,
            grad_norm=norm,
            lr=lr,
            tokens=sum(len(micro.input_ids) for micro in step.micro),
            trained_tokens=step.trained_tokens,
            batch_hash=step.batch_hash,
            skipped=skipped,
            seconds=time.perf_counter() - began,
            metrics={
                name: total / units
                for name, total in zip(self.objective.metrics, totals, strict=True)
            },
        )

    def _accumulate(self, step: Step, units: int) -> tuple[list[Tensor], list[Tensor]]:
        """Add up gradients of the mean loss of the step; its parts stay on the device."""
        losses: list[Tensor] = []
        metrics: list[Tensor] = []
        factor = (self.scaler.scale if self.scaler else 1.0) / units
        for number, micro in enumerate(step.micro):
            rng = StepRng(self.seed, step.index, number)
            batch = to_device(micro, self.model.device)
            loss, reported = self.objective.loss(self.model, batch, rng)
            (loss * factor).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
            metrics = [a + b for a, b in zip(metrics, reported, strict=True)] or list(reported)
        return losses, metrics

    def _refuse_non_finite(self, step: Step, sums: Sequence[float], norm: float) -> None:
        """Overflowing fp16 gradients only lower the loss scale; anything else ends the run."""
        guilty = [m for m, loss in zip(step.micro, sums, strict=True) if not math.isfinite(loss)]
        forgiven = self.scaler is not None and not self.scaler.exhausted
        if guilty or not (math.isfinite(norm) or forgiven):
            value = next((s for s in sums if not math.isfinite(s)), norm)
            what = "loss" if guilty else "gradient norm"
            raise NonFinite(
                f"the {what} of step {step.index + 1} (epoch {step.epoch + 1}) is {value} in rows "
                f"{_name_rows(guilty or step.micro)}; the update was not made. Look at these rows, "
                f"lower optim.learning_rate, or raise optim.warmup"
            )


def _read(
    losses: Sequence[Tensor], norm: Tensor, metrics: Sequence[Tensor]
) -> tuple[list[float], float, list[float]]:
    """One transfer for everything the host wants to know about a step."""
    values = torch.stack([t.double() for t in (*losses, norm, *metrics)]).tolist()
    return values[: len(losses)], values[len(losses)], values[len(losses) + 1 :]


def _name_rows(micros: Iterable[MicroBatch], limit: int = 32) -> str:
    rows = [int(row) for micro in micros for row in micro.rows]
    named = ", ".join(str(row) for row in rows[:limit])
    return named if len(rows) <= limit else f"{named} and {len(rows) - limit} more"
