"""Mean, standard deviation and confidence interval of one figure over runs. Standard library only.

The interval is Student's: mean +- t((1 + confidence) / 2, n - 1) sd / sqrt(n). It holds for seeds
drawn at random and figures that are about normal; it says nothing of other data or other settings.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ftlab import atomic
from ftlab.reproduce.stats import t_quantile

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Estimate:
    """What n values say; sd and interval are None for one value, and where one is not finite."""

    n: int
    mean: float
    sd: float | None = None  # of the sample, with n - 1
    low: float | None = None
    high: float | None = None
    confidence: float = CONFIDENCE

    @property
    def half(self) -> float | None:
        """Half the width of the interval."""
        return None if self.high is None else self.high - self.mean

    def figures(self) -> tuple[str, str, str]:
        """Mean, sd and interval for a table, "-" where there is none."""
        mean = "not finite" if math.isnan(self.mean) else f"{self.mean:.6g}"
        if self.sd is None or self.low is None or self.high is None:
            return mean, "-", "-"
        return mean, f"{self.sd:.3g}", f"{self.low:.6g} to {self.high:.6g}"

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        plain: dict[str, Any] = atomic.plain(asdict(self))
        return plain


def estimate(values: Sequence[float], confidence: float = CONFIDENCE) -> Estimate:
    """Mean, sd and interval of one value per run.

    Raises:
        ValueError: no values.
    """
    if not values:
        raise ValueError("no values to estimate from")
    if not all(map(math.isfinite, values)):
        return Estimate(len(values), math.nan, confidence=confidence)
    mean = statistics.fmean(values)
    if len(values) == 1:
        return Estimate(1, mean, confidence=confidence)
    sd = statistics.stdev(values)
    reach = _t((1 + confidence) / 2, len(values) - 1) * sd / math.sqrt(len(values))
    return Estimate(len(values), mean, sd, mean - reach, mean + reach, confidence)


_t = functools.cache(t_quantile)  # 35 ms each
