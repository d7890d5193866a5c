"""Axes of a chart: where a value lies and which numbers stand beside it, linear or logarithmic."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

_SUFFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Axis:
    """A range of values; `log` takes only what is above zero."""

    low: float
    high: float
    log: bool = False

    @classmethod
    def around(cls, values: Iterable[float], *, log: bool = False) -> Axis:
        """The axis that shows every finite value, with a little air when linear."""
        shown = [v for v in values if v - v == 0 and (not log or v > 0)]
        if not shown:
            return cls(0.1 if log else 0.0, 1.0, log)
        low, high = min(shown), max(shown)
        if low == high:
            if log:
                return cls(low / 2, high * 2, log)
            air = abs(low) * 0.1 or 0.5
            return cls(low - air, high + air, log)
        if log:
            return cls(low, high, log)
        air = (high - low) * 0.03
        return cls(low - air, high + air, log)

    def share(self, value: float) -> float | None:
        """Where a value lies, 0 at `low` and 1 at `high`; None when it has no place."""
        if value - value != 0 or (self.log and value <= 0):
            return None
        if self.log:
            low, high = math.log(self.low), math.log(self.high)
            return (math.log(value) - low) / (high - low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, count: int) -> list[float]:
        """At most about `count` round numbers inside the range, rising."""
        if count < 1:
            return []
        if self.log and self.high / self.low >= 8:
            return self._log_ticks(count)
        step = _round_step((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]

    def _log_ticks(self, count: int) -> list[float]:
        low, high = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        for factors in ((1, 2, 5), (1, 3), (1,)):
            made = [f * 10.0**power for power in range(low, high + 1) for f in factors]
            made = [tick for tick in made if self.low <= tick <= self.high]
            if len(made) <= count:
                return made
        return made[:: -(-len(made) // count)]


def label(value: float) -> str:
    """A number in at most six or seven characters: 0, 1.25, 870, 12.5k, 2e-05."""
    if value != value:
        return "nan"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    for unit, suffix in _SUFFIXES:
        if size >= unit * (10 if suffix == "k" else 1):
            return f"{value / unit:.3g}{suffix}"
    if size >= 1000:
        return f"{value:.0f}"
    if size and size < 1e-3:
        mantissa, _, power = f"{value:.3g}".partition("e")
        return f"{mantissa}e{int(power)}" if power else mantissa
    return f"{value:.3g}" if abs(value) > 1e-12 else "0"


def number(value: float | None, missing: str = "-") -> str:
    """A measured value with four digits, for headers and crosshairs."""
    if value is None or value != value:
        return missing
    if math.isinf(value):
        return label(value)
    size = abs(value)
    if size >= 1e5 or (size and size < 1e-3):
        return label(value)
    return f"{value:,.0f}" if size >= 1e4 else f"{value:.4g}"


def _round_step(step: float) -> float:
    """The next of 1, 2, 2.5, 5, 10 times a power of ten."""
    if step <= 0 or step - step != 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(step))
    return next(f * power for f in (1, 2, 2.5, 5, 10, 20) if f * power >= step * (1 - 1e-9))
