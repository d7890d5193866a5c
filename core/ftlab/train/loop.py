"""The only training loop: accumulate, add up over ranks, check, clip, update, tell the hooks.

SFT and DPO are objectives, never loops. Logs, evaluation, checkpoints and requests are hooks, which
act between steps. The loop holds no random state and reads no clock that decides anything: a step
is a function of (trained state, step index), so a resumed run repeats the bits of a straight one.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer

from ftlab.errors import FtlabError
from ftlab.models.engine import StepRng
from ftlab.train.batch import Batch, to_device
from ftlab.train.numerics import LossScaler, clip_factor, global_norm, scale_gradients
from ftlab.train.optimizers import set_learning_rate
from ftlab.train.ranks.alone import Alone

if TYPE_CHECKING:
    from ftlab.data.batches import BatchIndex, MicroBatch, Step
    from ftlab.models.engine import Decoder
    from ftlab.train.flat_gradients import FlatGradients
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
    gradients: FlatGradients | None = None,
    ranks: Alone | None = None,
) -> None:
    """Train from step `start` to the last step of `batches`.

    Args:
        schedule: learning rate of a step index.
        max_grad_norm: longer gradients are scaled down to it; 0 turns clipping off.
        scaler: loss scaling, for fp16 compute only.
        seed: of dropout, together with the step and the position.
        gradients: those of all parameters, kept in one place; None: each step makes its own.
        ranks: the processes that share each step; None: this one does all of it.
    Raises:
        NonFinite: loss or gradients are not finite; the message names the rows.
        Interrupted: a hook ended the run after a save.
    """
    ranks = ranks or Alone()
    worker = _Worker(model, objective, optimizer, max_grad_norm, scaler, seed, gradients, ranks)
    for hook in hooks:
        hook.begin(start)
    model.train_mode()
    ahead = _Ahead(batches, model.device, ranks)
    for index in range(start, batches.steps):
        step, placed = ahead.take(index)
        worker.launch(step, placed)
        ahead.try_to_prepare(index + 1)  # while the device works
        result = worker.finish(schedule(index), (index + 1) / batches.steps_per_epoch)
        for hook in hooks:
            hook.after_step(result)


class _Ahead:
    """Reads the next step and sends it to the device before it is asked for."""

    def __init__(self, batches: BatchIndex, device: torch.device, ranks: Alone) -> None:
        self.batches, self.device, self.ranks = batches, device, ranks
        self.index = -1
        self.ready: tuple[Step, dict[int, Batch]] | None = None

    def take(self, index: int) -> tuple[Step, dict[int, Batch]]:
        """Step `index`, and by number its micro-batches that are computed here, on the device."""
        if self.index != index:
            self.prepare(index)
        assert self.ready is not None
        return self.ready

    def prepare(self, index: int) -> None:
        """Make step `index` ready; there is none after the last."""
        if index < self.batches.steps:
            step = self.batches.step(index)
            own = self.ranks.own(len(step.micro))
            self.ready = step, {i: to_device(step.micro[i], self.device) for i in own}
            self.index = index

    def try_to_prepare(self, index: int) -> None:
        """The same; a fault is raised when the step is asked for, after the present one is done."""
        with contextlib.suppress(FtlabError, OSError):
            self.prepare(index)


@dataclass(slots=True)
class _Worker:
    """Carries out single steps, in two parts between which the device is busy."""

    model: Decoder
    objective: Objective
    optimizer: Optimizer
    max_grad_norm: float
    scaler: LossScaler | None
    seed: int
    flat: FlatGradients | None
    ranks: Alone
    under_way: _UnderWay | None = None
    parameters: list[Parameter] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = list(self.model.trainable().values())

    def launch(self, step: Step, placed: dict[int, Batch]) -> None:
        """Forward and backward over the step, and the sum over ranks; nothing is waited for."""
        began = time.perf_counter()
        units = self.objective.units(step)
        sums = self._accumulate(step, placed, units)
        width = 1 + len(self.objective.metrics)
        sums = self.ranks.add(sums, len(step.micro), width, self.parameters)
        gradients = self._gradients()
        self.under_way = _UnderWay(step, units, began, sums, gradients, global_norm(gradients))

    def finish(self, lr: float, epoch: float) -> StepResult:
        """One update, once everything is known to be finite."""
        assert self.under_way is not None
        step, units, began, sums, gradients, length = self.under_way
        self.under_way = None  # it would hold this step's gradients during the next one
        # The only wait for the device in a step: no update before all of this is known finite.
        parts, norm = _read(sums, length)
        scale = self.scaler.scale if self.scaler else 1.0
        norm /= scale
        self._refuse_non_finite(step, [part[0] for part in parts], norm)
        skipped = not math.isfinite(norm)
        if not skipped:
            scale_gradients(gradients, clip_factor(norm, self.max_grad_norm) / scale)
            set_learning_rate(self.optimizer, lr)
            self.optimizer.step()
        if self.scaler:
            self.scaler.update(overflow=skipped)
        marks = step.batch_hash, norm
        self.ranks.check(step.index + 1, marks, self.parameters)
        if self.flat is None:
            self.optimizer.zero_grad(set_to_none=True)
        loss, *metrics = (math.fsum(column) / units for column in zip(*parts, strict=True))
        return StepResult(
            step=step.index + 1,
            epoch=epoch,
            loss=loss,
            grad_norm=norm,
            lr=lr,
            tokens=sum(len(micro.input_ids) for micro in step.micro),
            trained_tokens=step.trained_tokens,
            batch_hash=step.batch_hash,
            skipped=skipped,
            seconds=time.perf_counter() - began,
            metrics=dict(zip(self.objective.metrics, metrics, strict=True)),
        )

    def _gradients(self) -> list[Tensor]:
        if self.flat is not None:
            return self.flat.buffers
        return [p.grad for p in self.parameters if p.grad is not None]

    def _accumulate(self, step: Step, placed: dict[int, Batch], units: int) -> list[Tensor]:
        """Add up the gradients of the step's mean loss.

        Returns:
            for each micro-batch the sums of loss and metrics, fp64 [1 + metrics], on the device.
        """
        sums = []
        factor = (self.scaler.scale if self.scaler else 1.0) / units
        if self.flat is not None:
            self.flat.clear()
        for number, batch in placed.items():
            rng = StepRng(self.seed, step.index, number)
            loss, metrics = self.objective.loss(self.model, batch, rng)
            (loss * factor).backward()  # type: ignore[no-untyped-call]
            sums.append(torch.stack([loss.detach(), *metrics]).double())
        return sums

    def _refuse_non_finite(self, step: Step, losses: Sequence[float], norm: float) -> None:
        """Overflowing fp16 gradients only lower the loss scale; anything else ends the run."""
        guilty = [m for m, loss in zip(step.micro, losses, strict=True) if not math.isfinite(loss)]
        forgiven = self.scaler is not None and not self.scaler.exhausted
        if guilty or not (math.isfinite(norm) or forgiven):
            what = "loss" if guilty else "gradient norm"
            value = next((loss for loss in losses if not math.isfinite(loss)), norm)
            raise NonFinite(
                f"the {what} of step {step.index + 1} (epoch {step.epoch + 1}) is {value} in rows "
                f"{_name_rows(guilty or step.micro)}; the update was not made. Look at these rows, "
                f"lower optim.learning_rate, or raise optim.warmup"
            )


class _UnderWay(NamedTuple):
    """A step whose gradients the device computes."""

    step: Step
    units: int
    began: float
    sums: list[Tensor]
    gradients: list[Tensor]
    norm: Tensor


def _read(sums: Sequence[Tensor], norm: Tensor) -> tuple[list[list[float]], float]:
    """One transfer for everything the host wants to know about a step."""
    *values, read_norm = torch.cat([*sums, norm.view(1)]).tolist()
    width = len(sums[0])
    return [values[i : i + width] for i in range(0, len(values), width)], read_norm


def _name_rows(micros: Iterable[MicroBatch], limit: int = 32) -> str:
    rows = [int(row) for micro in micros for row in micro.rows]
    named = ", ".join(str(row) for row in rows[:limit])
    return named if len(rows) <= limit else f"{named} and {len(rows) - limit} more"
