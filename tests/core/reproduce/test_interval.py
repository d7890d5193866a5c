"""Mean, sd and interval against worked figures and a table of Student's t."""

from __future__ import annotations

import json
import math
import random

import pytest

from ftlab.reproduce.interval import estimate

# t(0.975, n - 1) to four figures, as in any printed table.
TABLE = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 11: 2.228, 31: 2.042, 101: 1.984}


@pytest.mark.parametrize("n", TABLE)
def test_the_reach_is_that_of_the_table(n: int) -> None:
    values = [math.sin(i) for i in range(n)]
    made = estimate(values)
    assert made.sd is not None
    assert made.half is not None
    assert made.half * math.sqrt(n) / made.sd == pytest.approx(TABLE[n], rel=4e-4)


def test_a_worked_example() -> None:
    made = estimate([1.0, 2.0, 3.0, 4.0, 5.0])
    assert (made.n, made.mean) == (5, 3.0)
    assert made.sd == pytest.approx(1.5811388)
    assert made.low == pytest.approx(3 - 1.96324, abs=1e-4)
    assert made.high == pytest.approx(3 + 1.96324, abs=1e-4)


def test_it_holds_as_often_as_it_says() -> None:
    draw = random.Random(3407)
    inside = 0
    for _ in range(2000):
        made = estimate([draw.gauss(7, 2) for _ in range(4)], 0.9)
        assert made.low is not None
        assert made.high is not None
        inside += made.low <= 7 <= made.high
    assert 0.88 < inside / 2000 < 0.92


def test_equal_values_have_an_interval_of_no_width() -> None:
    made = estimate([2.5, 2.5, 2.5])
    assert (made.sd, made.low, made.high) == (0, 2.5, 2.5)


def test_one_value_has_no_interval() -> None:
    made = estimate([2.5])
    assert (made.mean, made.sd, made.low, made.half) == (2.5, None, None, None)


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_has_none_either(odd: float) -> None:
    made = estimate([1.0, odd, 2.0])
    assert math.isnan(made.mean)
    assert made.half is None
    assert json.loads(json.dumps(made.to_json(), allow_nan=False))["mean"] is None


def test_no_values() -> None:
    with pytest.raises(ValueError, match="no values"):
        estimate([])
