"""From a plan to plain arguments: builds what `loop.fit` needs, runs it, exports the result.

The order matters. The model is loaded as it was before training, references are computed from
that, and only then is a checkpoint restored: so a resumed run computes what the first attempt did.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftlab import estimate, manifest
from ftlab.control import Inbox
from ftlab.data.batches import BatchIndex
from ftlab.data.chat import resolve
from ftlab.errors import ConfigError, DataError, Interrupted
from ftlab.events import EventWriter, Heartbeat
from ftlab.export.adapter import export_trained
from ftlab.ledger import Ledger
from ftlab.models.attach import attach
from ftlab.models.dtypes import as_dtype
from ftlab.models.engine import Decoder
from ftlab.models.load import Loaded, load_model
from ftlab.plan import Plan
from ftlab.planning.measured import device_name
from ftlab.planning.schedule import from_text
from ftlab.reproduce import trace
from ftlab.run import Run
from ftlab.train import checkpoint
from ftlab.train.evaluators import evaluator, sampler
from ftlab.train.flat_gradients import FlatGradients
from ftlab.train.hooks import Evaluator, Recorder, Requests, Saver
from ftlab.train.indexes import evaluation_batches, training_batches
from ftlab.train.loop import Hook, NonFinite, fit
from ftlab.train.memory import OutOfMemory, clear_memory_errors, peak_bytes
from ftlab.train.numerics import LossScaler, make_deterministic
from ftlab.train.objectives import Objective
from ftlab.train.objectives.dpo import Dpo, Reference, adapter_off
from ftlab.train.objectives.reference import precomputed
from ftlab.train.objectives.sft import Sft
from ftlab.train.optimizers import optimizer
from ftlab.train.pace import Pace
from ftlab.train.ranks.alone import LEAVE, Alone, Diverged
from ftlab.train.ranks.words import Follow, Lead
from ftlab.train.rehearsal import kept_gradients, settle
from ftlab.train.schedules import schedule
from ftlab.train.signals import StopSignal
from ftlab.train.state import TrainState
from ftlab.train.tracing import Tracer

ASKED_SAMPLES = 3  # answers to a `sample` request where none are made at evaluations
HASH_EVERY = 50  # steps between state hashes in the ledger, at least


@dataclass(frozen=True, slots=True)
class Desk:
    """What one trainer process works with: its run, its voice, and its ear."""

    run: Run
    plan: Plan
    events: EventWriter
    heartbeat: Heartbeat
    stop: StopSignal
    ranks: Alone = field(default_factory=Alone)

    def say(self, message: str) -> None:
        """Show what goes on in the status."""
        self.heartbeat.update(message=message)

    def warn(self, message: str) -> None:
        """Tell everyone who follows the run."""
        self.events.write("warning", message=message)


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that is loaded and decided before the first step."""

    loaded: Loaded
    model: Decoder
    state: TrainState
    batches: BatchIndex
    objective: Objective
    held_out: BatchIndex | None
    held_out_objective: Objective | None
    gradients: FlatGradients | None  # kept from step to step; None: made by every step


def train(desk: Desk, *, resume: bool) -> None:
    """Train the run of `desk` to its end and export the result.

    Raises:
        Interrupted: stopped by a signal or a request, after a save.
        EnvironmentUnfit: out of memory, disk full, changed data, and the like.
        ConfigError: the run was begun before, or its checkpoint belongs to another plan.
        FtlabError: loss or gradients are not finite, or every checkpoint is damaged.
    """
    with _naming_checkpoint(desk.run), clear_memory_errors(desk.plan):
        _train(desk, resume)


def _train(desk: Desk, resume: bool) -> None:
    run = desk.run
    found = _agree_on_checkpoint(desk, resume)
    work = _prepare(desk)
    start = 0
    if found is not None:
        work.state.restore(found)
        start = found.step
    settle(
        desk.plan, work.model, work.objective, work.batches, work.gradients, desk.warn,
        desk.ranks.agree,
    )  # fmt: skip
    if not desk.ranks.leads:
        _fit(desk, work, [Follow(desk.ranks)], start)
        return
    manifest.begin(run)
    with Ledger.open(run.ledger_path, start) as ledger, EventWriter(run.samples_path) as samples:
        if ledger.last_step != start:
            desk.warn(f"the ledger lost the records after step {ledger.last_step} in a crash")
        pace = _pace(desk.plan, work)
        try:
            _fit(desk, work, [pace, *_hooks(desk, work, ledger, samples), Lead(desk.ranks)], start)
        except Interrupted:
            desk.ranks.say(LEAVE)
            raise
        finally:
            pace.remember()
    desk.say("exporting")
    precision = "fp32" if work.state.is_adapter else desk.plan.config.model.precision
    export_trained(
        work.loaded.model, work.loaded.tokenizer, run.export_dir, dtype=as_dtype(precision)
    )


@contextlib.contextmanager
def _naming_checkpoint(run: Run) -> Iterator[None]:
    """Say with a NaN, or with too little memory, what is left: the last checkpoint before it."""
    try:
        yield
    except (NonFinite, OutOfMemory, Diverged) as error:
        found, _ = checkpoint.newest(run.checkpoints_dir)
        kept = f"the last checkpoint is {found.path.name}" if found else "there is no checkpoint"
        raise type(error)(f"{error}; {kept}") from error


def _agree_on_checkpoint(desk: Desk, resume: bool) -> checkpoint.Checkpoint | None:
    """The checkpoint that every rank goes on from."""

    def find() -> tuple[str, int] | None:
        found = _find_checkpoint(desk, resume)
        return (str(found.path), found.step) if found else None

    agreed = desk.ranks.share(find)
    return checkpoint.Checkpoint(Path(agreed[0]), agreed[1]) if agreed else None


def _find_checkpoint(desk: Desk, resume: bool) -> checkpoint.Checkpoint | None:
    """The newest complete checkpoint of a resumed run; what is ignored is said."""
    found, ignored = checkpoint.newest(desk.run.checkpoints_dir)
    for path, reason in ignored:
        desk.warn(f"checkpoint {path.name} is ignored: {reason}")
    if found is not None and not resume:
        raise ConfigError(
            f"run {desk.run.id} has checkpoints up to step {found.step}; use `ftrun resume`"
        )
    return found


def _prepare(desk: Desk) -> Work:
    plan = desk.plan
    make_deterministic(desk.ranks.threads(plan.facts.machine.threads))
    desk.say("deciding the batches")
    batches = desk.ranks.first(lambda: training_batches(plan, desk.run.data_dir))
    held_out = evaluation_batches(plan) if desk.ranks.leads else None
    if batches.steps != plan.steps:
        desk.warn(f"{batches.steps} steps instead of the {plan.steps} that were estimated")
    desk.say("loading the model")
    loaded = _load(plan)
    _use_template(desk, loaded)
    model = attach(loaded.model, compute_dtype=as_dtype(plan.decided("compute_dtype")))
    if "memory_schedule" in plan.decisions:
        model.schedule = from_text(plan.decided("memory_schedule"))
    state = _state(plan, model, batches)
    desk.ranks.reserve(model.trainable().values())
    return Work(
        loaded,
        model,
        state,
        batches,
        desk.ranks.first(lambda: _objective(desk, model, batches, "reference")),
        held_out,
        _objective(desk, model, held_out, "reference-eval") if held_out else None,
        kept_gradients(model, state.optimizer),
    )


def _load(plan: Plan) -> Loaded:
    config, facts = plan.config, plan.facts.model
    return load_model(
        facts.path,
        precision=config.model.precision,
        compute_dtype=plan.decided("compute_dtype"),
        device=plan.decided("device"),
        revision=facts.revision or None,
        trust_remote_code=config.model.trust_remote_code,
        rope_scaling=config.model.rope_scaling,
        adapter=config.adapter,
        seed=config.train.seed,
    )


def _use_template(desk: Desk, loaded: Loaded) -> None:
    """Give the tokenizer, which is exported with the result, the template that was trained with."""
    used = desk.plan.facts.data.template
    if not used or used.startswith("none"):
        return
    try:
        found = resolve(loaded.tokenizer, desk.plan.config.data.chat_template)
    except DataError as error:
        desk.warn(f"the exported tokenizer keeps its own chat template: {error}")
    else:
        loaded.tokenizer.chat_template = found.text


def _objective(desk: Desk, model: Decoder, batches: BatchIndex, name: str) -> Objective:
    """The objective over `batches`; `name` is where precomputed references are kept."""
    method, plan = desk.plan.config.method, desk.plan
    checkpointing = plan.config.memory.checkpointing == "on"
    if method.kind == "sft":
        return Sft(method.label_smoothing, checkpointing)
    reference: Reference = adapter_off
    if method.reference == "precomputed":

        def progress(done: int) -> None:
            if desk.stop:
                raise Interrupted(f"stopped by {desk.stop.name} before the first step")
            desk.say(f"reference log-probabilities: step {done} of {batches.steps}")

        reference = precomputed(
            model,
            batches,
            len(batches.store),
            desk.run.data_dir / f"{name}.npy",
            f"{plan.hash} {batches.sha256}",
            progress,
        )
    return Dpo(method.beta, reference, method.label_smoothing, checkpointing)


def _state(plan: Plan, model: Decoder, batches: BatchIndex) -> TrainState:
    optim = plan.config.optim
    parameters = model.trainable()
    return TrainState(
        model=model.model,
        parameters=parameters,
        optimizer=optimizer(
            optim.name,
            parameters,
            weight_decay=optim.weight_decay,
            lr_ratio=optim.loraplus_lr_ratio,
        ),
        scaler=LossScaler() if plan.decided("loss_scaling") else None,
        identity={"plan": plan.hash, "batches": batches.sha256},
    )


def _hooks(desk: Desk, work: Work, ledger: Ledger, samples: EventWriter) -> list[Hook]:
    """Ledger before checkpoint, checkpoint before evaluation, and requests at the end."""
    run, settings, steps = desk.run, desk.plan.config.train, work.batches.steps
    recorder = Recorder(
        ledger,
        desk.events,
        desk.heartbeat,
        work.state,
        steps=steps,
        # Hashing reads 1 GB in about 1.2 s: a step per MiB keeps it below 0.5 % of the time.
        hash_every=max(HASH_EVERY, work.state.nbytes() >> 20),
        log_every=settings.log_every,
        memory=lambda: max(peak_bytes(work.model.device), desk.ranks.peak),
    )
    saver = Saver(
        run.checkpoints_dir,
        work.state,
        ledger,
        desk.events,
        steps=steps,
        every=int(settings.save_every),
        keep=settings.keep,
    )
    questions = work.held_out or work.batches
    evaluations = Evaluator(
        _measure(desk, work),
        sampler(work.model, work.loaded.tokenizer, questions, settings.samples or ASKED_SAMPLES),
        desk.events,
        samples,
        desk.stop,
        steps=steps,
        every=int(settings.eval_every),
    )
    requests = Requests(Inbox(run), desk.stop, saver, evaluations, desk.events)
    step = trace.asked(run)
    tracers: list[Hook] = [Tracer(run, work.model, step)] if step else []
    return [recorder, *tracers, saver, evaluations, requests]


def _pace(plan: Plan, work: Work) -> Pace:
    """What tells later plans how fast this machine is."""
    config, machine, batches = plan.config, plan.facts.machine, work.batches
    device = str(plan.decided("device"))
    lengths = batches.store.lengths()
    micro = estimate.Work(
        spec=work.model.spec, adapter=config.adapter, precision=str(config.model.precision),
        compute_dtype=str(plan.decided("compute_dtype")), optimizer=str(config.optim.name),
        tokens=int(batches.header["max_length"]) * int(config.train.micro_batch_size),
        longest=int(batches.header["max_length"]),
        checkpointing=config.memory.checkpointing == "on", cuda=device != "cpu",
        ranks=plan.world_size,
    )  # fmt: skip
    passes = int(config.method.kind == "dpo" and config.method.reference == "adapter_off")
    return Pace(device_name(machine, device), micro, float(lengths.mean()), passes, plan.world_size)


def _measure(desk: Desk, work: Work) -> Callable[[], Mapping[str, float]] | None:
    """Evaluation over the held-out batches, where there are any."""
    if work.held_out is None or work.held_out_objective is None:
        return None
    return evaluator(work.model, work.held_out_objective, work.held_out, desk.stop)


def _fit(desk: Desk, work: Work, hooks: list[Hook], start: int) -> None:
    plan, optim = desk.plan, desk.plan.config.optim
    rate = schedule(
        optim.schedule,
        peak=float(optim.learning_rate),
        steps=work.batches.steps,
        warmup=optim.warmup,
    )
    fit(
        work.model,
        work.objective,
        work.batches,
        work.state.optimizer,
        rate,
        hooks,
        start=start,
        max_grad_norm=optim.max_grad_norm,
        scaler=work.state.scaler,
        seed=plan.config.train.seed,
        gradients=work.gradients,
        ranks=desk.ranks,
    )
