"""What happens between steps: records, checkpoints, evaluation, requests. One small class each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ftlab.control import Inbox, Request
from ftlab.errors import Interrupted
from ftlab.evaluation.samples import Sample
from ftlab.events import EventReader, EventWriter, Heartbeat
from ftlab.ledger import Ledger
from ftlab.train import checkpoint
from ftlab.train.loop import StepResult
from ftlab.train.signals import StopSignal
from ftlab.train.state import TrainState


class Recorder:
    """Writes the ledger record of every step, the event of every `log_every`-th, and the status.

    A state hash is taken every `hash_every` steps and at the last: never where it depends on when
    somebody asked for a checkpoint, so that interrupted and straight runs have equal ledgers.
    """

    def __init__(
        self,
        ledger: Ledger,
        events: EventWriter,
        heartbeat: Heartbeat,
        state: TrainState,
        *,
        steps: int,
        hash_every: int,
        log_every: int,
        memory: Callable[[], int],
    ) -> None:
        self.ledger, self.events, self.heartbeat, self.state = ledger, events, heartbeat, state
        self.steps, self.hash_every, self.log_every = steps, hash_every, log_every
        self.memory = memory

    def begin(self, step: int) -> None:
        """Say where this process begins."""
        self.heartbeat.update(step=step, steps=self.steps, message="training")
        self.events.write("started", step=step, steps=self.steps, resumed_from=step or None)

    def after_step(self, result: StepResult) -> None:
        """Ledger first: it is the record that must not miss a step."""
        totals = self.state.totals
        totals.tokens += result.tokens
        totals.trained_tokens += result.trained_tokens
        self.ledger.append(
            step=result.step,
            loss=result.loss,
            grad_norm=result.grad_norm,
            lr=result.lr,
            trained_tokens=result.trained_tokens,
            batch_hash=result.batch_hash,
            state_hash=self.state.hash() if self._due(result.step, self.hash_every) else None,
        )
        self.heartbeat.update(step=result.step)
        if self._due(result.step, self.log_every) or result.skipped:
            self._log(result)

    def _due(self, step: int, every: int) -> bool:
        return step % every == 0 or step == self.steps

    def _log(self, result: StepResult) -> None:
        fields = asdict(result)
        metrics = fields.pop("metrics")
        del fields["batch_hash"]
        self.events.write(
            "step",
            **fields,
            tokens_total=self.state.totals.tokens,
            trained_total=self.state.totals.trained_tokens,
            tok_s=round(result.tokens / result.seconds, 1),
            mem_bytes=self.memory(),
            **metrics,
        )


class Saver:
    """Writes a checkpoint every `every` steps, at the last step, and when asked."""

    def __init__(
        self,
        root: Path,
        state: TrainState,
        ledger: Ledger,
        events: EventWriter,
        *,
        steps: int,
        every: int,
        keep: int,
    ) -> None:
        self.root, self.state, self.ledger, self.events = root, state, ledger, events
        self.steps, self.every, self.keep = steps, every, keep
        self.saved: int | None = None  # step of the newest checkpoint

    def begin(self, step: int) -> None:
        """A resumed step is already on the disk."""
        self.saved = step or None

    def after_step(self, result: StepResult) -> None:
        """Save when it is time."""
        if result.step % self.every == 0 or result.step == self.steps:
            self.save(result.step)

    def save(self, step: int) -> None:
        """Write the checkpoint of `step`, once. The ledger reaches the disk before it does."""
        if self.saved == step:
            return
        self.ledger.sync()
        made = checkpoint.save(
            self.root, step, lambda folder: self.state.write(folder, step), keep=self.keep
        )
        self.saved = step
        self.events.write("checkpoint", step=step, path=made.path.name, bytes=made.size())


class Evaluator:
    """Evaluates and generates samples every `every` steps, at the last step, and when asked."""

    def __init__(
        self,
        evaluate: Callable[[], Mapping[str, float]] | None,
        sample: Callable[[], Sequence[Sample]],
        events: EventWriter,
        samples: EventWriter,
        stop: StopSignal,
        *,
        steps: int,
        every: int,
    ) -> None:
        self._evaluate, self._sample = evaluate, sample
        self.events, self.samples, self.stop = events, samples, stop
        self.steps, self.every = steps, every

    def begin(self, step: int) -> None:
        """Make up for an evaluation that a kill cut off after its step was saved."""
        if step and not self._has_evaluated(step):
            self._when_due(step)

    def after_step(self, result: StepResult) -> None:
        """Evaluate when it is time, unless a signal asks to leave quickly."""
        self._when_due(result.step)

    def evaluate(self, step: int) -> None:
        """Measure the fixed evaluation batches; one cut short by a signal leaves no event."""
        if self._evaluate is None:
            self.events.write("warning", message="no evaluation data; set data.eval_fraction")
            return
        measured = self._evaluate()
        if not self.stop:
            self.events.write("eval", step=step, **measured)

    def sample(self, step: int) -> None:
        """Generate answers to a few fixed prompts."""
        for made in self._sample():
            self.events.write("sample", step=step, **asdict(made))
            self.samples.write("sample", step=step, **asdict(made))

    def _when_due(self, step: int) -> None:
        if self.every and (step % self.every == 0 or step == self.steps) and not self.stop:
            self.evaluate(step)
            if not self.stop:
                self.sample(step)

    def _has_evaluated(self, step: int) -> bool:
        found = EventReader(self.events.path).poll()
        return any(event["kind"] == "eval" and event.get("step") == step for event in found)


class Requests:
    """Answers what others ask through control/, and leaves after a save when told to stop."""

    def __init__(
        self,
        inbox: Inbox,
        stop: StopSignal,
        saver: Saver,
        evaluator: Evaluator,
        events: EventWriter,
    ) -> None:
        self.inbox, self.stop, self.events = inbox, stop, events
        self.saver, self.evaluator = saver, evaluator

    def begin(self, step: int) -> None:
        """A wish may have come while the model was loading."""
        self._answer(step)

    def after_step(self, result: StepResult) -> None:
        """Look once per step."""
        self._answer(result.step)

    def _answer(self, step: int) -> None:
        requests = self.inbox.poll()
        for request in requests:
            self.events.write("request", number=request.number, name=request.name)
        for request in requests:
            self._act(request, step)
            self.events.write("answered", number=request.number, name=request.name, step=step)
        asked = any(request.name == "stop" for request in requests)
        if asked or self.stop:
            self.saver.save(step)
            reason = "a stop request" if asked else self.stop.name
            raise Interrupted(f"stopped by {reason} after step {step}; resume with `ftrun resume`")

    def _act(self, request: Request, step: int) -> None:
        if request.name in ("save", "stop"):
            self.saver.save(step)
        elif request.name == "eval":
            self.evaluator.evaluate(step)
        elif request.name == "sample":
            self.evaluator.sample(step)
