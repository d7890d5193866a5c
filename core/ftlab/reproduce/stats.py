"""Whether two groups of runs with different seeds reach the same evaluation: two one-sided tests.

Welch's t for each side of a declared margin (Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987): the
groups are equivalent at level alpha where the interval of confidence 1 - 2 alpha of the difference
of their means lies inside the margin. The power is that of finding it for groups that are equal,
with the spread that was seen: t_cdf(margin / se - t(1 - alpha)) of both sides. Standard library
only.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ftlab import events
from ftlab.errors import ConfigError, VerdictNegative
from ftlab.identity import NUMERICS
from ftlab.reproduce import compare
from ftlab.reproduce.compare import FieldDifference
from ftlab.reproduce.verdict import INCOMPARABLE, NOT_REPRODUCED
from ftlab.run import Run

STATISTICAL = "STATISTICAL"
LEAST = 3  # seeds of a group
ALPHA = 0.05
# What another seed makes differ.
SEEDED = frozenset({"seed", "config.train.seed", "data.stream_sha256"})


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The test of two groups; `low` and `high` bound the difference of means, b minus a."""

    margin: float
    means: tuple[float, float]
    deviations: tuple[float, float]  # sample standard deviations
    difference: float
    low: float
    high: float
    p: float  # the larger one of both sides
    power: float

    @property
    def holds(self) -> bool:
        """Whether the groups are equivalent."""
        return -self.margin < self.low and self.high < self.margin


@dataclass(frozen=True, slots=True)
class GroupVerdict:
    """The word over two groups, and what it rests on."""

    word: str
    metric: str
    a: tuple[str, ...]  # ids of runs
    b: tuple[str, ...]
    fields: tuple[FieldDifference, ...] = ()
    values: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    test: Equivalence | None = None

    @property
    def exit_code(self) -> int:
        """0 for STATISTICAL, 4 for another word."""
        return 0 if self.word == STATISTICAL else VerdictNegative.exit_code

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        plain = asdict(self)
        return {"verdict": plain.pop("word"), "exit_code": self.exit_code, **plain}

    def __str__(self) -> str:
        if self.test is None:
            names = ", ".join(field.name for field in self.fields)
            return f"{self.word}: the groups differ in more than their seeds: {names}"
        found = self.test
        both = zip((self.a, self.b), found.means, found.deviations, strict=True)
        lines = [f"  {len(ids)} runs: mean {mean:.6g}, sd {sd:.3g}" for ids, mean, sd in both]
        inside = "lies inside" if found.holds else "is not inside"
        return "\n".join([
            f"{self.word}: the difference of eval {self.metric} {inside} the margin of "
            f"{found.margin:g}",
            *lines,
            f"  difference {found.difference:+.3g}, {100 * (1 - 2 * ALPHA):.0f} % interval "
            f"{found.low:+.3g} to {found.high:+.3g}, p {found.p:.3g}",
            f"  power to find equal groups equivalent: {100 * found.power:.0f} %",
        ])  # fmt: skip


def judge(a: Sequence[Run], b: Sequence[Run], metric: str, margin: float) -> GroupVerdict:
    """STATISTICAL, NOT REPRODUCED or INCOMPARABLE over two groups of runs that are done.

    Args:
        metric: of the last evaluation, such as loss.
        margin: the largest difference of means that counts as none; declared before looking.
    Raises:
        ConfigError: a group is too small, a seed is there twice, a run was not evaluated.
    """
    if not margin > 0:
        raise ConfigError(f"--margin must be above 0, not {margin}")
    for group in (a, b):
        _check_seeds(group)
    ids = tuple(run.id for run in a), tuple(run.id for run in b)
    first = compare.sealed(a[0])["identity"]
    differing = {
        field.name: field
        for run in (*a[1:], *b)
        for field in compare.fields(first, compare.sealed(run)["identity"])
        if field.kind == NUMERICS and field.name not in SEEDED
    }
    if differing:
        return GroupVerdict(INCOMPARABLE, metric, *ids, tuple(differing.values()))
    values = tuple(_measured(r, metric) for r in a), tuple(_measured(r, metric) for r in b)
    test = tost(*values, margin)
    word = STATISTICAL if test.holds else NOT_REPRODUCED
    return GroupVerdict(word, metric, *ids, (), values, test)


def tost(a: Sequence[float], b: Sequence[float], margin: float) -> Equivalence:
    """Two one-sided Welch tests of means."""
    means = statistics.fmean(a), statistics.fmean(b)
    deviations = statistics.stdev(a), statistics.stdev(b)
    parts = deviations[0] ** 2 / len(a), deviations[1] ** 2 / len(b)
    error, difference = math.sqrt(sum(parts)), means[1] - means[0]
    if error == 0:
        inside = abs(difference) < margin
        return Equivalence(
            margin, means, deviations, difference, difference, difference, float(not inside), 1.0
        )
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (len(a) - 1) + parts[1] ** 2 / (len(b) - 1))
    reach = t_quantile(1 - ALPHA, freedom)
    sides = (margin - difference) / error, (margin + difference) / error
    return Equivalence(
        margin, means, deviations, difference,
        difference - reach * error, difference + reach * error,
        max(1 - t_cdf(side, freedom) for side in sides),
        max(0.0, 2 * t_cdf(margin / error - reach, freedom) - 1),
    )  # fmt: skip


def t_cdf(x: float, freedom: float) -> float:
    """Student's t distribution."""
    tail = 0.5 * _beta(freedom / 2, 0.5, freedom / (freedom + x * x))
    return 1 - tail if x > 0 else tail


def t_quantile(p: float, freedom: float) -> float:
    """The t of which `t_cdf` is `p`, by halving."""
    low, high = -1e9, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, freedom) < p else (low, middle)
    return (low + high) / 2


def _beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function, by its continued fraction (DLMF 8.17.22)."""
    if x in (0.0, 1.0):
        return x
    if x > (a + 1) / (a + b + 2):  # where the fraction of the other side is the fast one
        return 1 - _beta(b, a, 1 - x)
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x)
    value = 1.0
    for m in range(200, 0, -1):  # from the inside out
        odd = -(a + m - 1) * (a + b + m - 1) * x / ((a + 2 * m - 2) * (a + 2 * m - 1))
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        value = 1 + odd / (1 + even / value)
    return math.exp(scale + b * math.log1p(-x)) / (a * value)


def _check_seeds(group: Sequence[Run]) -> None:
    if len(group) < LEAST:
        raise ConfigError(f"a group needs {LEAST} seeds or more, not {len(group)}")
    seeds = [compare.sealed(run)["identity"]["seed"]["value"] for run in group]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"a seed is there twice in {', '.join(run.id for run in group)}")


def last_evaluation(run: Run) -> dict[str, Any]:
    """The event of the evaluation at a run's last step; {} without one."""
    event = events.last(run.events_path, "eval") or {}
    return event if event.get("step") == run.status().step else {}


def _measured(run: Run, metric: str) -> float:
    value = last_evaluation(run).get(metric)
    if not isinstance(value, (int, float)):
        raise ConfigError(f"run {run.id} has no eval {metric} at its last step")
    return float(value)
