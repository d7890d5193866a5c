"""Which charts a run has: loss with its smoothed form and evaluations, and what its method reports.

Supervised: learning rate and gradient norm beside the loss. Preference: margin, accuracy and the
log-probabilities of chosen and rejected answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ftlab_tui.monitor.view import Curve, Points
from ftlab_tui.reading.live import LiveRun
from ftlab_tui.reading.series import Column, Table

SMOOTHING = (0.9, 0.98, 0.995, 0.0)  # weights of the past, in the order that a key goes through


@dataclass(frozen=True, slots=True)
class ChartPlan:
    """A chart: its id, title, and (name, metric, table, colour) of each curve."""

    key: str
    title: str
    curves: tuple[tuple[str, str, str, int], ...]
    log: bool = False


LOSS = ChartPlan(
    "loss",
    "loss",
    (("train", "loss", "train", 0), ("smooth", "loss", "smooth", 1), ("eval", "loss", "eval", 2)),
)
LEARNING_RATE = ChartPlan("lr", "learning rate", (("lr", "lr", "train", 0),))
GRADIENT = ChartPlan("grad", "grad-norm", (("norm", "grad_norm", "train", 0),))
MARGIN = ChartPlan(
    "margin",
    "reward margin",
    (("train", "rewards/margins", "train", 0), ("eval", "rewards/margins", "eval", 2)),
)
ACCURACY = ChartPlan(
    "accuracy",
    "accuracy",
    (
        ("train", "rewards/accuracies", "train", 0),
        ("smooth", "rewards/accuracies", "smooth", 1),
        ("eval", "rewards/accuracies", "eval", 2),
    ),
)
LOGPROBS = ChartPlan(
    "logps",
    "log-probs",
    (("chosen", "logps/chosen", "train", 2), ("rejected", "logps/rejected", "train", 3)),
)
SUPERVISED = (LOSS, LEARNING_RATE, GRADIENT)
PREFERENCE = (LOSS, MARGIN, ACCURACY, LOGPROBS, LEARNING_RATE, GRADIENT)


def plans(live: LiveRun) -> Sequence[ChartPlan]:
    """The charts of this run, the most important first."""
    return PREFERENCE if live.preference else SUPERVISED


class Smoother:
    """Exponential means of metrics, each brought up to date only as far as it is behind."""

    def __init__(self, weight: float = SMOOTHING[0]) -> None:
        self.weight = weight
        self._made: dict[str, tuple[Column, int, Column, float]] = {}  # source, cuts, mean, past

    def set(self, weight: float) -> None:
        """Smooth more or less from now on."""
        self.weight = weight
        self._made.clear()

    def table(self, source: Table, name: str) -> Table:
        """A table with the smoothed column of `name`; it shares the steps."""
        made = Table()
        made.steps = source.steps
        column = source.columns.get(name)
        if column is not None and self.weight:
            made.columns[name] = self._mean(name, column)
        return made

    def _mean(self, name: str, source: Column) -> Column:
        known = self._made.get(name)
        if known is None or known[0] is not source or known[1] != source.cuts:
            known = source, source.cuts, Column(), 1.0
        mean, past = known[2:]
        weight, done = self.weight, len(mean.values)
        current = mean.values[-1] * (1 - past) if done else 0.0
        fresh = []
        for value in source.values[done:]:
            if value - value == 0:
                current = weight * current + (1 - weight) * value
                past *= weight
            # Divided by the weight seen so far, so that the beginning is not drawn towards zero.
            fresh.append(current / (1 - past) if past < 1 else math.nan)
        mean.extend(done, fresh)
        self._made[name] = source, source.cuts, mean, past
        return mean


def curves(plan: ChartPlan, live: LiveRun, smoother: Smoother) -> list[Curve]:
    """The curves of a chart that have values. They read the run's tables when they are drawn."""
    made = []
    for name, metric, where, colour in plan.curves:
        source = live.evals if where == "eval" else live.train
        if metric not in source.columns or (where == "smooth" and not smoother.weight):
            continue

        def points(
            low: float, high: float, count: int, where: str = where, metric: str = metric
        ) -> Points:
            return _table(live, smoother, where, metric).buckets(metric, low, high, count)

        def at(step: float, where: str = where, metric: str = metric) -> tuple[float, float] | None:
            return _table(live, smoother, where, metric).at(metric, step)

        made.append(Curve(name, points, at, colour, marks=where == "eval"))
    return made


def _table(live: LiveRun, smoother: Smoother, where: str, metric: str) -> Table:
    if where == "eval":
        return live.evals
    return smoother.table(live.train, metric) if where == "smooth" else live.train
