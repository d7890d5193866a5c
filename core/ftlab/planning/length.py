"""Decide how long rows may be and whether short ones are packed."""

from __future__ import annotations

from ftlab.estimate import GIB
from ftlab.facts import DataFacts, Gpu
from ftlab.planning.draft import Draft

ROUND_TO = 64  # max_length auto is a multiple of this
LENGTH_CAP = 2048  # and at most this, or the larger cap on a large GPU
LARGE_GPU_CAP, LARGE_GPU_BYTES = 4096, 30 * GIB


def decide_length(draft: Draft, gpu: Gpu | None) -> int:
    """Choose or check model.max_length, in tokens."""
    data, limit = draft.facts.data, position_limit(draft)
    if not draft.is_auto("model.max_length"):
        length = int(draft.config.model.max_length)
        if length > limit:
            draft.refuse_config(
                "model.max_length",
                f"{length} tokens are more than the {limit} positions of the model",
                f"use at most {limit}, or stretch it with model.rope_scaling",
            )
        return length
    large = gpu is not None and gpu.total_bytes >= LARGE_GPU_BYTES
    cap = LARGE_GPU_CAP if large else LENGTH_CAP
    rounded = max(ROUND_TO, -(-data.longest // ROUND_TO) * ROUND_TO)
    longest = f"the longest row has {data.longest:,} tokens"
    if rounded <= min(cap, limit):
        length, reason = rounded, f"{longest}, rounded up to a multiple of {ROUND_TO}"
    elif limit <= cap:
        length, reason = limit, f"{longest}; the model has {limit:,} positions"
    else:
        length, reason = cap, f"{longest}; cut at {cap:,} to save memory, raise it to keep more"
    draft.decide("model.max_length", length, reason)
    return length


def position_limit(draft: Draft) -> int:
    """Longest sequence the model's positions allow, with the scaling that a person asked for."""
    scaling = draft.config.model.rope_scaling
    limit = draft.spec.max_positions
    if isinstance(scaling, dict):
        limit = int(limit * float(scaling.get("factor", 1.0)))
    return limit


def decide_packing(draft: Draft, length: int) -> None:
    """Choose data.packing: it pays where rows are much shorter than the longest one."""
    if not draft.is_auto("data.packing"):
        return
    mean, longest = mean_length(draft.facts.data, length), longest_length(draft, length)
    if mean <= 0.75 * longest:
        reason = f"rows have {mean:.0f} tokens on average and up to {longest:,}"
        draft.decide("data.packing", True, f"{reason}: several fit beside each other")
    else:
        reason = f"rows have {mean:.0f} tokens on average and up to {longest:,}"
        draft.decide("data.packing", False, f"{reason}: nothing to gain")


def sequences_per_row(data: DataFacts) -> int:
    """1, or 2 for preference rows: prompt with chosen, prompt with rejected."""
    return 2 if data.preference else 1


def longest_length(draft: Draft, length: int) -> int:
    """Tokens of the longest sequence that is trained."""
    return max(1, min(draft.facts.data.longest or length, length))


def usable_at(data: DataFacts, length: int) -> tuple[int, int, int] | None:
    """(rows, tokens, trained tokens) of one epoch at that max_length, where the probe counted."""
    return data.usable.get(str(min(length, data.longest)))


def mean_length(data: DataFacts, length: int) -> float:
    """Mean tokens of a sequence after cutting at `length`."""
    known = usable_at(data, length)
    if known is not None and known[0]:
        return known[1] / known[0] / sequences_per_row(data)
    if not data.rows or not data.tokens:
        return float(max(1, min(length, data.longest)))
    mean = data.tokens / data.rows / sequences_per_row(data)
    if data.longest <= length or not data.histogram:
        return min(mean, float(length))
    # The histogram knows lengths only by bucket; its own mean serves as the scale of the cut.
    counted = sum(rows for _, rows in data.histogram)
    whole = sum(bound * rows for bound, rows in data.histogram) / counted
    cut = sum(min(bound, length) * rows for bound, rows in data.histogram) / counted
    return float(mean * cut / whole)
