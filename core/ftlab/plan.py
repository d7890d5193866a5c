"""The plan: what a config will do with these facts, every "auto" replaced and explained.

`resolve(config, facts)` is pure: no file, no device, no clock; it refuses with every reason.
"""

from __future__ import annotations

from ftlab import estimate
from ftlab.facts import Facts, Gpu
from ftlab.models.spec import DecoderSpec
from ftlab.planning import checks, fit, hardware, length, place, ranks, steps, timing
from ftlab.planning.draft import Draft
from ftlab.planning.fit import Fit
from ftlab.planning.identity import plan_hash
from ftlab.planning.render import render
from ftlab.planning.steps import Course
from ftlab.planning.types import (
    MEMORY_TERMS,
    PLAN_VERSION,
    Decision,
    Plan,
    from_json,
    to_json,
)
from ftlab.planning.words import size
from ftlab.schema import RunConfig

__all__ = [
    "MEMORY_TERMS", "PLAN_VERSION", "Decision", "Plan", "from_json", "render", "resolve", "to_json",
]  # fmt: skip

SAMPLE_TOKENS = 64  # an answer generated as a sample, on average
LOGS_BYTES = 32 * estimate.MIB  # events, ledger, samples and the batch index of a usual run


def resolve(config: RunConfig, facts: Facts) -> Plan:
    """Replace every "auto" by a decision with its reason, and say what the run will need.

    Raises:
        ConfigError: the config cannot be meant like this for this model and data (exit 2).
        EnvironmentUnfit: this machine or model cannot do it (exit 3). Both carry every reason.
    """
    draft = Draft(config, facts, DecoderSpec.from_dict(facts.model.spec))
    gpu = hardware.decide_device(draft)
    hardware.decide_compute(draft, gpu)
    hardware.decide_attention(draft, gpu)
    place.decide_network(draft)
    tokens = length.decide_length(draft, gpu)
    checks.check_data(draft, tokens)
    checks.check_model(draft)
    checks.decide_data(draft)
    steps.decide_learning(draft)
    length.decide_packing(draft, tokens)
    ranks.check_shares(draft)
    chosen = fit.decide_fit(draft, gpu, tokens, hardware.memory_budget(draft, gpu))
    hardware.check_packages(draft)
    course = steps.course(draft, tokens)
    steps.decide_rhythm(draft, course, tokens)
    steps.check_course(draft, course, tokens)
    disk = _check_disk(draft, chosen)
    draft.raise_refusals()
    return _finish(draft, gpu, chosen, course, disk)


def _check_disk(draft: Draft, chosen: Fit) -> int:
    """Bytes the run directory takes at most; refuses when the disk has less."""
    keep, free = draft.config.train.keep, draft.facts.machine.disk_free_bytes
    each = estimate.checkpoint_bytes(draft.spec, draft.config.adapter, chosen.work.optimizer)
    final = 4 * estimate.trained_parameters(draft.spec, draft.config.adapter)
    # A new checkpoint is complete before an old one is deleted.
    need = (keep + 1) * each + final + LOGS_BYTES
    if need > free:
        draft.refuse_here(
            "train.keep",
            f"{keep} + 1 checkpoints of {size(each)} and the result need {size(need)}; "
            f"{size(free)} are free on the disk",
            "free some space, lower train.keep, or put the runs elsewhere with --runs-dir",
        )
    return need


def _finish(draft: Draft, gpu: Gpu | None, chosen: Fit, course: Course, disk: int) -> Plan:
    config, facts = draft.config, draft.facts
    sequences = length.sequences_per_row(facts.data)
    evaluated, predicted = _evaluated(draft, course)
    amount = timing.Amount(
        tokens=course.tokens,
        trained_tokens=course.trained_tokens,
        mean_length=course.tokens / max(1, course.row_visits * sequences),
        micro_batches=_micro_batches(chosen, course, config),
        reference_passes=1 if config.method.kind == "dpo" else 0,
        evaluated_tokens=evaluated,
        evaluated_trained_tokens=predicted,
        generated_tokens=SAMPLE_TOKENS
        * config.train.samples
        * steps.evaluations(draft, course.steps),
        ranks=draft.world_size,
        steps=course.steps,
    )
    return Plan(
        config=config,
        decisions=draft.decisions,
        memory=chosen.memory,
        steps=course.steps,
        steps_per_epoch=course.steps_per_epoch,
        rows=course.rows,
        train_tokens=course.trained_tokens,
        seconds=timing.seconds(
            chosen.work, amount, facts.machine, gpu.index if gpu is not None else None
        ),
        disk_bytes=disk,
        warnings=tuple(dict.fromkeys(draft.warnings)),
        facts=facts,
        version=PLAN_VERSION,
        hash=plan_hash(config, facts, draft.decisions),
    )


def _evaluated(draft: Draft, course: Course) -> tuple[int, int]:
    """Tokens and predicted tokens of all evaluations."""
    evaluation, count = draft.facts.eval_data, steps.evaluations(draft, course.steps)
    if evaluation is None:
        return 0, 0
    limit, overlong = int(draft.config.model.max_length), draft.config.data.overlong
    _, tokens, predicted = steps.epoch_amounts(evaluation, limit, overlong)
    return int(count * tokens), int(count * predicted)


def _micro_batches(chosen: Fit, course: Course, config: RunConfig) -> int:
    """Forward passes of the whole run: by rows, or by filled token budgets when packing."""
    by_rows = -(-course.row_visits // chosen.micro_batch_size)
    if not config.data.packing:
        return max(course.steps, by_rows)
    return max(course.steps, min(by_rows, -(-course.tokens // max(1, chosen.work.tokens))))
