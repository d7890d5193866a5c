"""Decide the course of the run: learning rate, steps, how often to evaluate and save."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ftlab.facts import DataFacts
from ftlab.inactive import has_eval
from ftlab.planning.draft import Draft
from ftlab.planning.length import mean_length, sequences_per_row, usable_at
from ftlab.planning.words import rows as rows_of

LEARNING_RATES = {  # (method, adapter) -> (value, reason)
    ("sft", "lora"): (2e-4, "usual for LoRA SFT"),
    ("dpo", "lora"): (5e-6, "usual for LoRA DPO"),
    ("sft", "none"): (2e-5, "usual for full SFT"),
    ("dpo", "none"): (5e-7, "usual for full DPO"),
}
EVALUATIONS = 5  # eval_every auto spreads about this many over the run
EVALUATION_SHARE = 0.3  # of the training's operations that all evaluations may cost
BACKWARD_FACTOR = 2  # a trained token costs at least this many evaluated ones
SAVES = 10  # save_every auto likewise
SAVE_AT_LEAST, SAVE_AT_MOST = 10, 500  # steps


@dataclass(frozen=True, slots=True)
class Course:
    """How much is trained."""

    rows: int  # usable rows after dropping overlong ones
    steps: int
    steps_per_epoch: int
    row_visits: int  # rows seen over the whole run
    tokens: int  # through the decoder over the whole run
    trained_tokens: int


def decide_learning(draft: Draft) -> None:
    """Choose the learning rate and, for DPO, the reference."""
    kind, adapter = draft.config.method.kind, draft.config.adapter.kind
    if draft.is_auto("optim.learning_rate"):
        rate, reason = LEARNING_RATES[kind, adapter]
        draft.decide("optim.learning_rate", rate, reason)
    if kind == "dpo" and draft.is_auto("method.reference"):
        if adapter == "lora":
            draft.decide("method.reference", "adapter_off", "the frozen weights are the reference")
        else:
            reason = "every weight changes, so the reference is computed before the first step"
            draft.decide("method.reference", "precomputed", reason)


def course(draft: Draft, length: int) -> Course:
    """Steps and tokens from rows, epochs and batch size; see `data.batches` for the exact rule."""
    train = draft.config.train
    rows, tokens, trained = epoch_amounts(draft.facts.data, length, draft.config.data.overlong)
    per_epoch = math.ceil(rows / train.batch_size)
    steps = train.max_steps or epoch_steps(train.epochs, per_epoch)
    full_epochs, rest = divmod(steps, max(1, per_epoch))
    visits = full_epochs * rows + min(rows, rest * train.batch_size)
    share = visits / max(1, rows)
    return Course(rows, steps, per_epoch, visits, round(tokens * share), round(trained * share))


def epoch_steps(epochs: float, steps_per_epoch: int) -> int:
    """Steps of a number of epochs, exactly as `data.batches` counts them."""
    return max(1, math.ceil(round(epochs * steps_per_epoch, 6)))


def epoch_amounts(data: DataFacts, length: int, overlong: str) -> tuple[int, float, float]:
    """Usable rows, tokens of all sequences and trained tokens of one epoch.

    Exact where the probe counted at this length, else estimated from the histogram.
    """
    known = usable_at(data, length)
    if known is not None:
        return known
    rows = data.rows - (overlong_rows(data, length) if overlong == "drop" else 0)
    tokens = mean_length(data, length) * sequences_per_row(data) * rows
    trained = data.trained_tokens * tokens / max(1, data.tokens)
    return rows, tokens, min(trained, float(data.trained_tokens))


def overlong_rows(data: DataFacts, length: int) -> int:
    """Rows longer than `length`: exact where the facts counted it, else from the histogram."""
    if data.longest <= length:
        return 0
    if str(length) in data.over:
        return data.over[str(length)]
    return sum(rows for bound, rows in data.histogram if bound > length)


def decide_rhythm(draft: Draft, found: Course, length: int) -> None:
    """Choose eval_every and save_every, and turn samples off where nothing is evaluated."""
    steps = found.steps
    if draft.is_auto("train.eval_every"):
        _decide_evaluations(draft, found, length)
    if draft.is_auto("train.save_every"):
        every = min(SAVE_AT_MOST, max(SAVE_AT_LEAST, math.ceil(steps / SAVES)), steps)
        reason = f"{math.ceil(steps / every)} checkpoint(s) in {steps} steps"
        draft.decide("train.save_every", every, reason)
    if draft.config.train.eval_every == 0 and draft.config.train.samples:
        draft.decide("train.samples", 0, "samples are made at evaluations, and there are none")


def _decide_evaluations(draft: Draft, found: Course, length: int) -> None:
    """As many evaluations as are useful, and at most a share of the training's cost."""
    evaluation, steps = draft.facts.eval_data, found.steps
    if evaluation is None or not has_eval(draft.config):
        draft.decide("train.eval_every", 0, "there is no evaluation data")
        return
    once = epoch_amounts(evaluation, length, draft.config.data.overlong)[1]
    affordable = int(EVALUATION_SHARE * BACKWARD_FACTOR * found.tokens / max(1.0, once))
    count = min(EVALUATIONS, max(1, affordable), steps)
    reason = f"{count} time{'s' if count > 1 else ''} in {steps} steps"
    if count < EVALUATIONS:
        reason += f"; one evaluation is {once:,.0f} tokens, the whole training {found.tokens:,}"
    draft.decide("train.eval_every", math.ceil(steps / count), reason)


def evaluations(draft: Draft, steps: int) -> int:
    """How often a run of that many steps is evaluated: every so often, and after the last step."""
    every = int(draft.config.train.eval_every)
    return math.ceil(steps / every) if every and draft.facts.eval_data is not None else 0


def check_course(draft: Draft, found: Course, length: int) -> None:
    """Refuse or warn about what does not suit the number of steps."""
    config, steps = draft.config, found.steps
    warmup, batch = config.optim.warmup, config.train.batch_size
    if warmup >= 1 and warmup >= steps:
        draft.refuse_config(
            "optim.warmup",
            f"{warmup:g} steps of warm-up leave nothing of {steps} steps",
            "lower it; below 1 it is a share of all steps",
        )
    preference = draft.facts.data.preference
    if 0 < found.rows < batch:
        draft.warnings.append(
            f"train.batch_size {batch} is more than the {rows_of(found.rows, preference)} there "
            "are, so every step sees all of them"
        )
    _check_evaluation(draft, found, length)
    for name in ("save_every", "eval_every"):
        every = getattr(config.train, name)
        if every > steps:
            draft.warnings.append(f"train.{name} {every} is more than the {steps} steps of the run")


def _check_evaluation(draft: Draft, found: Course, length: int) -> None:
    """Say it when evaluating takes longer than training."""
    evaluation, count = draft.facts.eval_data, evaluations(draft, found.steps)
    if evaluation is None or not count:
        return
    once = epoch_amounts(evaluation, length, draft.config.data.overlong)[1]
    if count * once > BACKWARD_FACTOR * found.tokens:
        times = "one evaluation" if count == 1 else f"{count} evaluations"
        draft.warnings.append(
            f"{times} of {rows_of(evaluation.rows, evaluation.preference)} take longer than the "
            "training; raise train.eval_every, or lower data.eval_fraction"
        )
