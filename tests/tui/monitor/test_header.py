"""The two lines over the charts: what is told of each state, and what goes where room is short."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftlab.run import Run
from ftlab_tui.monitor import header
from ftlab_tui.reading.live import LiveRun

START = 1_700_000_000.0


def live(run: Run) -> LiveRun:
    made = LiveRun(run)
    made.look()
    while made.poll():
        pass
    return made


@pytest.mark.parametrize("width", [10, 40, 80, 160])
def test_no_line_is_too_long(make_run: Callable[..., Run], width: int) -> None:
    shown = live(make_run("a-run-with-a-name", live=True))
    assert header.progress(shown, width, {}, START + 100).cell_len <= width
    assert header.figures(shown, None, width, {}).cell_len <= width


def test_what_is_told(make_run: Callable[..., Run]) -> None:
    shown = live(make_run("r", live=True))
    line = header.progress(shown, 160, {}, START + 100).plain
    for words in ("r", "● running", "step 60/200", "30%", "ETA 1:40", "elapsed 1:40", "epoch 1.20"):
        assert words in line
    line = header.figures(shown, None, 160, {}).plain
    for words in ("loss", "eval 1.167 best 1.167@60", "4096 tok/s", "trained tokens 120k"):
        assert words in line
    shown = live(make_run("d", dpo=True))
    assert "accuracy 0.65" in header.figures(shown, None, 160, {}).plain


def test_a_resumed_run_counts_its_own_time(
    make_run: Callable[..., Run], make_event: Callable[..., dict[str, Any]]
) -> None:
    run = make_run("r", 40, live=True)
    later = START + 10_000
    make = make_run  # the same maker appends
    make.append(run, {"v": 1, "t": later, "kind": "started", "step": 40, "steps": 200,  # type: ignore[attr-defined]
                      "resumed_from": 40})  # fmt: skip
    for step in range(41, 61):
        make.append(run, make_event(step, t=later + 2 * (step - 40)))  # type: ignore[attr-defined]
    shown = live(run)
    line = header.progress(shown, 160, {}, later + 40).plain
    assert "resumed 1x" in line
    assert "ETA 4:40" in line  # 140 steps at two seconds, not at the pace of the whole time


def test_waiting_is_explained(make_run: Callable[..., Run]) -> None:
    run = make_run("r", 0, state="planned")
    run.events_path.unlink()
    assert header.waiting_for(live(run)) == "planned, not started"
    assert header.waiting_for(live(make_run("s", 0, state="failed"))) == "no step was finished"
    assert "?" in header.sign("unheard-of", {}).plain
