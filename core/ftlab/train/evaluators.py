"""What the loop may ask between steps, closed over its model: measure, and answer prompts."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ftlab.data.batches import BatchIndex, Step
from ftlab.evaluation.perplexity import perplexity
from ftlab.evaluation.preference import preference
from ftlab.evaluation.samples import Sample, answer, question
from ftlab.train.objectives.dpo import Dpo
from ftlab.train.signals import StopSignal

if TYPE_CHECKING:
    from ftlab.models.engine import Decoder
    from ftlab.train.objectives import Objective


def evaluator(
    model: Decoder, objective: Objective, batches: BatchIndex, stop: StopSignal
) -> Callable[[], dict[str, float]]:
    """Loss and perplexity of SFT, loss and preference metrics of DPO, over all of `batches`.

    A signal cuts the measurement short; what it then returns stands for a part of the data.
    """

    def measure() -> dict[str, float]:
        steps = itertools.chain([batches.step(0)], _until(stop, batches))
        if isinstance(objective, Dpo):
            measured = preference(model, objective, steps)
        else:
            found = perplexity(model, (micro for step in steps for micro in step.micro))
            measured = {"loss": found.loss, "perplexity": found.perplexity, "tokens": found.tokens}
        model.train_mode()
        return measured

    return measure


def sampler(
    model: Decoder, tokenizer: Any, batches: BatchIndex, count: int
) -> Callable[[], list[Sample]]:
    """Answers to the prompts of `count` rows, always the same ones, spread over the data."""
    rows = sorted({int(row) for row in batches.step_rows(0)[:count]})
    questions = [question(batches.store, row) for row in rows]
    return lambda: answer(model.model, tokenizer, questions)


def _until(stop: StopSignal, batches: BatchIndex) -> Iterator[Step]:
    """Every step but the first, as long as nobody wants to leave."""
    for index in range(1, batches.steps):
        if stop:
            return
        yield batches.step(index)
