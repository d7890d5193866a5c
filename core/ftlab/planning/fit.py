"""Decide how a step fits into memory: precision, optimizer, micro-batch, checkpointing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product

from ftlab import estimate
from ftlab.estimate import Work
from ftlab.facts import Gpu
from ftlab.planning import exchange
from ftlab.planning.draft import Draft
from ftlab.planning.length import longest_length, sequences_per_row
from ftlab.planning.scheduling import decide_schedule, pinnable, step_memory
from ftlab.planning.shapes import padded_tokens
from ftlab.planning.words import size

TOKENS_CAP = {True: 16384, False: 2048}  # micro_batch_size auto, on a GPU and on the CPU
ROOM = 0.9  # of a device's memory, where memory.budget is automatic
ENOUGH_TOKENS = 4096  # a micro-batch that keeps a GPU busy


@dataclass(frozen=True, slots=True)
class Fit:
    """One way to run, and its memory."""

    work: Work
    micro_batch_size: int
    memory: dict[str, int]

    @property
    def total(self) -> int:
        """Bytes at the peak of a step."""
        return sum(self.memory.values())


def decide_fit(draft: Draft, gpu: Gpu | None, length: int, budget: int) -> Fit:
    """Choose precision, optimizer, micro-batch and checkpointing so that a step fits the budget.

    Refuses with the smallest need and what would fit when nothing does; then the smallest way to
    run is returned, so that the other checks can go on.
    """
    best: Fit | None = None
    for precision, optimizer in product(_precisions(draft, gpu), _optimizers(draft)):
        best = _best_layout(draft, gpu, length, budget, precision, optimizer)
        if best is not None:
            break
    if best is None:
        best = _smallest(draft, gpu, length)
        _refuse_memory(draft, length, budget, best)
    _record(draft, gpu, best, budget)
    decide_schedule(draft, best.work, budget)
    return best


def _precisions(draft: Draft, gpu: Gpu | None) -> tuple[str, ...]:
    asked = draft.config.model.precision
    if asked != "auto":
        return (asked,)
    compute = str(draft.decided("compute_dtype"))
    if draft.config.adapter.kind == "none" or gpu is None or not _has_bitsandbytes(draft):
        return (compute,)
    return (compute, "nf4")


def _optimizers(draft: Draft) -> tuple[str, ...]:
    asked = draft.config.optim.name
    if asked != "auto":
        return (asked,)
    full = draft.config.adapter.kind == "none"
    return ("adamw", "adamw_8bit") if full and _has_bitsandbytes(draft) else ("adamw",)


def _has_bitsandbytes(draft: Draft) -> bool:
    versions = draft.facts.machine.versions
    return not versions or "bitsandbytes" in versions


def _best_layout(
    draft: Draft, gpu: Gpu | None, length: int, budget: int, precision: str, optimizer: str
) -> Fit | None:
    """The fastest layout that fits: no recomputing if a micro-batch stays large enough."""
    fits: dict[bool, Fit] = {}
    for checkpointing in _checkpointings(draft):
        for micro in _micro_batches(draft, gpu, length):
            work = _work(draft, gpu, length, micro, precision, optimizer, checkpointing)
            found = Fit(work, micro, step_memory(work, budget))
            if found.total <= budget:
                fits[checkpointing] = found
                break
    without, recomputing = fits.get(False), fits.get(True)
    if without is None or recomputing is None:
        return without or recomputing
    enough = min(ENOUGH_TOKENS, recomputing.work.tokens)
    return without if without.work.tokens >= enough else recomputing


def _checkpointings(draft: Draft) -> tuple[bool, ...]:
    asked = draft.config.memory.checkpointing
    return (False, True) if asked == "auto" else (asked == "on",)


def _micro_batches(draft: Draft, gpu: Gpu | None, length: int) -> Iterator[int]:
    """Micro-batch sizes to try, largest first."""
    train = draft.config.train
    if train.micro_batch_size != "auto":
        yield int(train.micro_batch_size)
        return
    per_row = sequences_per_row(draft.facts.data)
    per_row *= length if draft.config.data.packing else longest_length(draft, length)
    share = train.batch_size // draft.world_size  # every process gets one at least
    micro = max(1, min(share, TOKENS_CAP[gpu is not None] // per_row))
    while micro >= 1:
        yield micro
        micro = micro - 1 if micro <= 8 else micro * 3 // 4


def _work(
    draft: Draft, gpu: Gpu | None, length: int, micro: int,
    precision: str, optimizer: str, checkpointing: bool,
) -> Work:  # fmt: skip
    longest = longest_length(draft, length)
    sequences = sequences_per_row(draft.facts.data)
    whole_step = draft.config.train.batch_size * longest * sequences
    packed = bool(draft.config.data.packing)
    tokens = min(micro * sequences * (length if packed else longest), whole_step)
    return Work(
        spec=draft.spec,
        adapter=draft.config.adapter,
        precision=precision,
        compute_dtype=str(draft.decided("compute_dtype")),
        optimizer=optimizer,
        tokens=padded_tokens(tokens) if gpu is not None else tokens,
        longest=longest,
        checkpointing=checkpointing,
        cuda=gpu is not None,
        host=pinnable(draft.facts.machine, draft.world_size),
        tiles=micro == 1 or draft.config.train.micro_batch_size != "auto",
        room=_room(draft, gpu),
        ranks=draft.world_size,
    )


def _room(draft: Draft, gpu: Gpu | None) -> int | None:
    """What tiles are chosen by where the budget is automatic: not what is free on the device."""
    if gpu is None or "memory.budget" not in draft.decisions:
        return None
    trained = estimate.trained_parameters(draft.spec, draft.config.adapter)
    exchanged = exchange.workspace_bytes(trained, draft.world_size, cuda=True)
    return int(ROOM * gpu.total_bytes) - estimate.CUDA_CONTEXT - exchanged


def _smallest(draft: Draft, gpu: Gpu | None, length: int) -> Fit:
    """The way to run that needs least, within what the config fixes."""
    micro = min(_micro_batches(draft, gpu, length))
    precision, optimizer = _precisions(draft, gpu)[-1], _optimizers(draft)[-1]
    recompute = _checkpointings(draft)[-1]
    work = _work(draft, gpu, length, micro, precision, optimizer, recompute)
    return Fit(work, micro, step_memory(work, None))


def _refuse_memory(draft: Draft, length: int, budget: int, least: Fit) -> None:
    large = {term: count for term, count in least.memory.items() if count > least.total / 50}
    needs = ", ".join(f"{term} {size(count)}" for term, count in large.items())
    more = _total(replace(least.work, host=None)) if least.work.cuda else least.total
    if more <= budget and least.work.host is not None:
        needs += f"; with host memory to pin, beyond the {size(least.work.host)} that can be, "
        needs += f"{size(more)} would do"
    draft.refuse_here(
        "memory",
        f"a step needs {size(least.total)} and {size(budget)} may be used ({needs})",
        _remedies(draft, length, budget, least),
    )


def _remedies(draft: Draft, length: int, budget: int, least: Fit) -> str:
    """Single changes of the config that fit, or all changes together, with what they need."""
    changes = list(_changes(draft, length, least))
    totals = sorted((_total(change(least.work)), name) for name, change in changes)
    useful = [f"{name} needs {size(total)}" for total, name in totals if total <= budget]
    if useful:
        return "; ".join(useful)
    together = least.work
    for _, change in changes:
        together = change(together)
    names = ", ".join(name for name, _ in changes)
    total = _total(together)
    rest = "" if total <= budget else ", so take a smaller model or a larger device"
    return f"{names} together need {size(total)}{rest}"


def _total(work: Work) -> int:
    return sum(step_memory(work, None).values())


def _changes(draft: Draft, length: int, least: Fit) -> Iterator[tuple[str, Callable[[Work], Work]]]:
    """What a person may change, and what it does to the work."""
    work, lora = least.work, draft.config.adapter.kind == "lora"
    if not work.checkpointing:
        yield "memory.checkpointing: on", lambda w: replace(w, checkpointing=True)
    if least.micro_batch_size > 1:
        rows = least.micro_batch_size
        yield "train.micro_batch_size: 1", lambda w: replace(w, tokens=max(1, w.tokens // rows))
    if not lora:
        adapter = replace(work.adapter, kind="lora")
        yield (
            "adapter.kind: lora",
            lambda w: replace(w, adapter=adapter, precision=w.compute_dtype, optimizer="adamw"),
        )
    if work.optimizer == "adamw":
        yield "optim.name: adamw_8bit", lambda w: replace(w, optimizer="adamw_8bit")
    if lora and work.precision != "nf4" and _has_bitsandbytes(draft):
        yield "model.precision: nf4", lambda w: replace(w, precision="nf4")
    if length >= 128:
        half = length // 2
        yield (
            f"model.max_length: {half}",
            lambda w: replace(w, tokens=max(1, w.tokens // 2), longest=min(w.longest, half)),
        )


def _record(draft: Draft, gpu: Gpu | None, fit: Fit, budget: int) -> None:
    """Write the chosen way into the config, each choice with its reason."""
    work, need = fit.work, f"{size(fit.total)} of {size(budget)}"
    if draft.is_auto("model.precision"):
        draft.decide("model.precision", work.precision, _precision_reason(draft, gpu, work))
    if draft.is_auto("optim.name"):
        eight = work.optimizer == "adamw_8bit"
        state = size(fit.memory["optimizer"])
        reason = f"32-bit state would not fit; 8-bit takes {state}" if eight else f"state: {state}"
        draft.decide("optim.name", work.optimizer, reason)
    if draft.is_auto("memory.checkpointing"):
        kept = (
            "activations fit without recomputing"
            if not work.checkpointing
            else ("recomputing leaves room for larger micro-batches")
        )
        value = "on" if work.checkpointing else "off"
        draft.decide("memory.checkpointing", value, f"{kept}: {need}")
    if draft.is_auto("train.micro_batch_size"):
        tokens = f"up to {work.tokens:,} tokens at once, {need}"
        draft.decide("train.micro_batch_size", fit.micro_batch_size, tokens)
    capacity = fit.micro_batch_size * int(draft.config.model.max_length)
    packed = bool(draft.config.data.packing)
    draft.decide(
        "token_budget",
        capacity * sequences_per_row(draft.facts.data) if packed else None,
        "micro_batch_size x max_length" if packed else "rows are not packed",
    )


def _precision_reason(draft: Draft, gpu: Gpu | None, work: Work) -> str:
    compute = draft.decisions["compute_dtype"]
    held = size(estimate.weight_bytes(work))
    if work.full:
        return f"products in {compute.value}, weights kept in fp32 ({held}): {compute.reason}"
    if work.precision == "nf4":
        dense = replace(work, precision=str(compute.value))
        return f"{compute.value} weights ({size(estimate.weight_bytes(dense))}) do not fit"
    return f"{compute.reason}; the weights take {held}"
