"""Which charts there are, and smoothing that goes on where it was."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from ftlab.run import Run
from ftlab_tui.monitor import charts
from ftlab_tui.reading.live import LiveRun
from ftlab_tui.reading.series import Table


def test_preference_runs_have_their_own(make_run: Callable[..., Run]) -> None:
    for name, dpo, keys in (("s", False, ["loss", "lr", "grad"]), ("d", True, ["loss", "margin"])):
        live = LiveRun(make_run(name, dpo=dpo))
        live.poll(5)
        plans = charts.plans(live)
        assert [plan.key for plan in plans][: len(keys)] == keys
        drawn = charts.curves(plans[0], live, charts.Smoother())
        assert [curve.name for curve in drawn] == ["train", "smooth", "eval"]
        assert len(drawn[0].points(1, 60, 100)) == 60
        assert drawn[2].at(60)
        assert [c.name for c in charts.curves(plans[0], live, charts.Smoother(0.0))] == [
            "train", "eval",
        ]  # fmt: skip


def test_smoothing_is_incremental_and_not_drawn_to_zero() -> None:
    table, smoother = Table(), charts.Smoother(0.9)
    values = [3.0, 2.0, math.nan, 1.0, 5.0, 2.0]
    for step, value in enumerate(values, 1):
        table.append(step, {"loss": value})
        made = smoother.table(table, "loss").columns["loss"].values
        assert len(made) == step
    again = charts.Smoother(0.9).table(table, "loss").columns["loss"].values
    assert list(made) == pytest.approx(list(again))
    assert made[0] == pytest.approx(3.0)
    table.cut(3)  # a run that is resumed makes these steps again
    assert len(smoother.table(table, "loss").columns["loss"].values) == 2
