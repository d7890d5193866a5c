"""Numbers of many steps, kept small and drawn fast: columns with minima and maxima at every scale.

A `Table` has one row per logged step. Each column keeps, beside its values, the extremes of every
8, 64, 512, ... rows, so that a chart of 100,000 steps looks at a few hundred numbers. When a run is
resumed from an earlier step, the rows that were thrown away are cut off again.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

FAN = 8  # rows summed up by one bucket of the next scale
NAN = math.nan


class Column:
    """One metric: a value per row (NaN where there was none), and its extremes by scale.

    The extremes are caught up with when they are asked for: reading a long run costs nothing for
    the metrics that nobody looks at.
    """

    def __init__(self) -> None:
        self.values = array("f")
        self.scales: list[tuple[array[float], array[float]]] = []  # (minima, maxima)
        self.cuts = 0  # how often values were taken away again

    def extend(self, rows: int, values: Sequence[float]) -> None:
        """Add values after `rows` rows; a column that is shorter is filled with NaN first."""
        missing = rows - len(self.values)
        if missing > 0:
            self.values.extend([NAN] * missing)
        self.values.extend(values)

    def cut(self, rows: int) -> None:
        """Keep the first `rows` values."""
        self.cuts += len(self.values) > rows
        del self.values[rows:]
        for level, (low, high) in enumerate(self.scales):
            kept = rows // FAN ** (level + 1)
            del low[kept:]
            del high[kept:]

    def extremes(self, start: int, stop: int) -> tuple[float, float]:
        """Least and greatest finite value of rows start..stop-1; NaN, NaN where there is none."""
        self._sum_up()
        least, most = math.inf, -math.inf
        for low, high, first, last in self._pieces(start, min(stop, len(self.values))):
            for value in low[first:last]:
                if -math.inf < value < least:
                    least = value
            for value in high[first:last]:
                if most < value < math.inf:
                    most = value
        return (least, most) if least <= most else (NAN, NAN)

    def _sum_up(self) -> None:
        """Bring every scale up to the newest values."""
        minima, maxima, level = self.values, self.values, 0
        while (count := len(minima) // FAN) > 0:
            if level == len(self.scales):
                self.scales.append((array("f"), array("f")))
            low, high = self.scales[level]
            first, last = len(low) * FAN, count * FAN
            low.extend(_by_eight(minima[first:last], min, _least))
            high.extend(_by_eight(maxima[first:last], max, _most))
            minima, maxima, level = low, high, level + 1

    def _pieces(
        self, start: int, stop: int
    ) -> Iterator[tuple[array[float], array[float], int, int]]:
        """Stretches that cover the rows: buckets as large as fit, single values at the ends."""
        level = 0
        while level < len(self.scales) and (stop - start) >= 4 * FAN ** (level + 1):
            level += 1
        size = FAN**level
        if level == 0:
            yield self.values, self.values, start, stop
            return
        first, last = -(-start // size), stop // size
        low, high = self.scales[level - 1]
        yield from self._pieces(start, first * size)
        yield low, high, first, last
        yield from self._pieces(last * size, stop)


class Table:
    """Rows by rising step: the steps, their times, and one column per metric."""

    def __init__(self) -> None:
        self.steps = array("d")
        self.columns: dict[str, Column] = {}

    def __len__(self) -> int:
        return len(self.steps)

    def append(self, step: float, values: Mapping[str, float]) -> None:
        """Add a row; a step that is not beyond the last one replaces what followed it."""
        self.extend([step], {name: [value] for name, value in values.items()})

    def extend(self, steps: Sequence[float], values: Mapping[str, Sequence[float]]) -> None:
        """Add rows of rising steps; they replace the rows from the first of them on."""
        if not steps:
            return
        if self.steps and steps[0] <= self.steps[-1]:
            self.cut(steps[0])
        rows = len(self.steps)
        self.steps.extend(steps)
        for name, column in values.items():
            self.columns.setdefault(name, Column()).extend(rows, column)

    def cut(self, step: float) -> None:
        """Drop every row of `step` and beyond: a resumed run does these steps again."""
        rows = bisect_left(self.steps, step)
        del self.steps[rows:]
        for column in self.columns.values():
            column.cut(rows)

    def last(self, name: str) -> float:
        """The newest value that was written of a metric; NaN when there is none."""
        column = self.columns.get(name)
        return column.values[-1] if column and column.values else NAN

    def at(self, name: str, step: float) -> tuple[float, float] | None:
        """(step, value) of the row nearest to `step` that has a value near it."""
        column = self.columns.get(name)
        if column is None or not column.values:
            return None
        after = bisect_left(self.steps, step, 0, len(column.values))
        near = [row for row in (after - 1, after) if 0 <= row < len(column.values)]
        near = [row for row in near if not math.isnan(column.values[row])] or near
        row = min(near, key=lambda r: abs(self.steps[r] - step))
        return self.steps[row], column.values[row]

    def window(self, start: float, stop: float) -> tuple[int, int]:
        """The rows whose steps lie in start..stop, as a half-open range."""
        return bisect_left(self.steps, start), bisect_right(self.steps, stop)

    def buckets(
        self, name: str, start: float, stop: float, count: int
    ) -> list[tuple[float, float, float]]:
        """The curve between two steps for `count` points of width: (step, least, greatest).

        Few rows are given one by one; many are summed up, so that no spike is lost.
        """
        column = self.columns.get(name)
        if column is None or count < 1:
            return []
        first, last = self.window(start, stop)
        last = min(last, len(column.values))
        if last - first <= 2 * count:
            values = column.values
            return [(self.steps[r], values[r], values[r]) for r in range(first, last)]
        made = []
        for k in range(count):
            low = first + (last - first) * k // count
            high = first + (last - first) * (k + 1) // count
            made.append((self.steps[(low + high - 1) // 2], *column.extremes(low, high)))
        return made


def _by_eight(
    values: array[float], pick: Callable[..., float], careful: Callable[[array[float]], float]
) -> Iterable[float]:
    """One value of each FAN in a row: `pick` of them, or `careful` where any is not finite."""
    total = sum(values)
    if total - total == 0:
        return map(pick, *(values[k::FAN] for k in range(FAN)))
    return [careful(values[start : start + FAN]) for start in range(0, len(values), FAN)]


def _least(values: array[float]) -> float:
    total = sum(values)
    if total - total == 0:  # all finite
        return min(values)
    return min((v for v in values if v - v == 0), default=NAN)


def _most(values: array[float]) -> float:
    total = sum(values)
    if total - total == 0:
        return max(values)
    return max((v for v in values if v - v == 0), default=NAN)
