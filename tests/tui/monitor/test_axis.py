"""Axes and numbers."""

from __future__ import annotations

import math

import pytest

from ftlab_tui.monitor.axis import Axis, label, number


def test_ticks_are_round_and_inside() -> None:
    axis = Axis.around([0.86, 3.4])
    ticks = axis.ticks(5)
    assert ticks == [1.0, 1.5, 2.0, 2.5, 3.0] or len(ticks) >= 3
    assert all(axis.low <= tick <= axis.high for tick in ticks)
    assert axis.share(axis.low) == 0
    assert axis.share(math.nan) is None


def test_log_takes_what_is_above_zero() -> None:
    axis = Axis.around([0.0, -1.0, 0.01, 100.0], log=True)
    assert (axis.low, axis.high) == (0.01, 100.0)
    assert axis.share(1.0) == pytest.approx(0.5)
    assert axis.share(0.0) is None
    assert 1.0 in axis.ticks(6)


@pytest.mark.parametrize("values", [[], [math.nan], [3.0], [0.0, 0.0], [-1.0], [1e-30, 1e30]])
@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("count", [0, 1, 3, 20])
def test_any_values_make_an_axis(values: list[float], log: bool, count: int) -> None:
    axis = Axis.around(values, log=log)
    assert axis.low < axis.high
    assert len(axis.ticks(count)) <= max(60, 2 * count + 2)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1.25, "1.25"), (870, "870"), (12_500, "12.5k"), (2e-5, "2e-5"), (3.1e6, "3.1M"),
     (math.nan, "nan"), (-math.inf, "-inf"), (0.00015, "0.00015")],
)  # fmt: skip
def test_labels(value: float, text: str) -> None:
    assert label(value) == text
    assert len(label(value)) <= 8


def test_numbers() -> None:
    told = [number(v) for v in (None, 1.18349, 4910.4, 23_456.7)]
    assert told == ["-", "1.183", "4910", "23,457"]
