"""Tables of steps: nothing is lost at any scale, and a resume takes back what it repeats."""

from __future__ import annotations

import math
import random
import time

import pytest

from ftlab_tui.reading.series import Column, Table


def filled(count: int) -> tuple[Table, list[float]]:
    values = [random.Random(n).uniform(-5, 5) for n in range(count)]
    table = Table()
    table.extend(list(range(1, count + 1)), {"loss": values})
    return table, values


@pytest.mark.parametrize("count", [1, 7, 8, 63, 500, 1000, 5000])
def test_extremes_are_those_of_the_values(count: int) -> None:
    table, values = filled(count)
    column = table.columns["loss"]
    for _ in range(200):
        a, b = sorted(random.choices(range(count + 1), k=2))
        low, high = column.extremes(a, b)
        if a == b:
            assert math.isnan(low)
        else:
            assert low == pytest.approx(min(values[a:b]), abs=1e-5)
            assert high == pytest.approx(max(values[a:b]), abs=1e-5)


def test_values_that_are_not_finite_are_left_out() -> None:
    column = Column()
    column.extend(0, [math.nan, math.inf, 1.0, -math.inf] + [2.0] * 60)
    assert column.extremes(0, 64) == (1.0, 2.0)
    assert all(math.isnan(v) for v in column.extremes(0, 2))


def test_a_spike_is_never_lost() -> None:
    table, values = filled(100_000)
    table.columns["loss"].values[54_321] = 99.0
    assert max(high for _, _, high in table.buckets("loss", 0, 1e6, 80)) == 99.0
    assert len(table.buckets("loss", 0, 1e6, 80)) == 80
    assert len(table.buckets("loss", 10, 19, 80)) == 10
    assert len(values) == len(table)


def test_a_resume_takes_back_the_steps_it_repeats() -> None:
    table, _ = filled(1000)
    table.buckets("loss", 0, 1000, 10)
    table.append(601, {"loss": 42.0})
    assert len(table) == 601
    assert table.last("loss") == 42.0
    assert table.columns["loss"].extremes(0, 601)[1] == 42.0
    table.cut(0)
    assert len(table) == 0
    assert table.buckets("loss", 0, 10, 5) == []


def test_a_metric_that_comes_late_or_pauses() -> None:
    table = Table()
    table.append(1, {"a": 1.0})
    table.append(2, {"a": 2.0, "b": 5.0})
    table.append(3, {"a": 3.0})
    assert table.at("b", 1.9) == (2.0, 5.0)
    assert table.at("a", 2.2) == (2.0, 2.0)
    assert table.at("c", 1) is None
    assert math.isnan(table.last("c"))


@pytest.mark.quiet
def test_a_chart_of_a_long_run_costs_milliseconds(slowness: float) -> None:
    table, _ = filled(100_000)
    table.buckets("loss", 0, 1e6, 300)
    began = time.process_time()
    for _ in range(10):
        table.buckets("loss", 0, 1e6, 300)
    assert time.process_time() - began < 0.5 * slowness
