"""The bar tells the truth about time, fits its line, and is silent where nobody looks."""

from __future__ import annotations

import io
import os
import shutil
from typing import Any

import pytest

from ftlab import events, progress
from ftlab.errors import FtlabError
from ftlab.progress import Bar, Pace, describe, duration
from ftlab.run import Run, Status


def step(number: int, t: float, **more: Any) -> dict[str, Any]:
    return {"kind": "step", "t": t, "step": number, "loss": 2.0, "tok_s": 4910.4, **more}


def started(at: int, t: float, steps: int = 870) -> dict[str, Any]:
    resumed = at or None
    return {"kind": "started", "t": t, "step": at, "steps": steps, "resumed_from": resumed}


def test_time_left_counts_this_session_only() -> None:
    pace = Pace()
    assert pace.left(870, 0) is None
    for event in (started(0, 0), step(1, 1), step(100, 100)):
        pace.feed(event)
    assert pace.left(870, 100) == pytest.approx(770)
    pace.feed(started(400, 10_000))  # resumed hours later, on a slower machine
    assert pace.left(870, 10_000) is None
    pace.feed(step(401, 10_020, seconds=10.0))
    assert pace.left(870, 10_020) == pytest.approx(4690)
    pace.feed(step(411, 10_120))
    assert pace.left(870, 10_120) == pytest.approx(4590)
    assert pace.left(870, 10_125) == pytest.approx(4585)
    assert pace.left(411, 10_125) == 0


def test_pace_follows_the_recent_past() -> None:
    pace = Pace()
    pace.feed(started(0, 0))
    for number in range(1, 301):
        pace.feed(step(number, float(number)))
    for number in range(301, 701):
        pace.feed(step(number, 300.0 + (number - 300) * 2))
    assert pace.seconds_per_step() == pytest.approx(2)
    pace.feed(step(700, 1100))
    assert pace.seconds_per_step() is not None


@pytest.mark.parametrize("jump", [-86_400.0, 86_400.0])
def test_a_clock_that_is_set_does_not_spoil_the_time_left(jump: float) -> None:
    pace = Pace()
    for event in (started(0, 0), step(1, 1), step(50, 50), step(51, 51 + jump)):
        pace.feed(event)
    pace.feed(step(61, 61 + jump))
    assert pace.left(870, 61 + jump) == pytest.approx(809)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (42.4, "0:42"), (725, "12:05"), (11250, "3:07:30"), (184200, "2d 03:10:00")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("columns", [20, 40, 80, 160])
def test_the_line_fits(columns: int) -> None:
    bar = Bar(io.StringIO(), terminal=True)
    status = Status(steps=870, message="loading the model")
    assert bar.line("running", status, 0, columns) == "loading the model ..."[: columns - 1]
    for event in (started(0, 0), step(1, 1), step(412, 412)):
        bar.event(event)
    line = bar.line("running", status, 412, columns)
    assert len(line) < columns
    if columns >= 80:
        assert line.startswith("step 412/870 ━")
        assert line.endswith(" 47%  loss 2  4,910 tok/s  ETA 7:38")
    assert "no sign of life" in bar.line("stalled", Status(heartbeat=1), 412, 160)


def test_a_terminal_without_the_characters_gets_others() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    bar = Bar(stream, terminal=True)
    for event in (started(0, 0), step(1, 1), step(435, 435)):
        bar.event(event)
    line = bar.line("running", Status(), 435, 80)
    assert "###" in line
    line.encode("ascii")


def test_zero_steps_and_odd_events_do_no_harm() -> None:
    bar = Bar(io.StringIO(), terminal=True)
    bar.event({"kind": "step", "t": 1.0})
    bar.event({"kind": "step", "t": 2.0, "loss": float("nan")})
    assert "loss nan" in bar.line("running", Status(), 3, 80)
    bar.event({"kind": "novelty", "x": 1})


@pytest.mark.parametrize("terminal", [True, False])
def test_only_a_terminal_gets_a_bar(terminal: bool) -> None:
    stream = io.StringIO()
    bar = Bar(stream, terminal=terminal)
    bar.event(started(0, 0))
    bar.event(step(1, 1))
    bar.tick("running", Status())
    bar.tick("running", Status())  # too soon to draw again
    assert stream.getvalue().count("\r") == int(terminal)
    bar.event({"kind": "eval", "t": 2, "step": 1, "loss": 1.5})
    bar.event({"kind": "warning", "t": 2, "message": "12 rows were cut"})
    bar.clear()
    assert ("evaluation: loss 1.5" in stream.getvalue()) is terminal
    assert "warning: 12 rows were cut\n" in stream.getvalue()


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (started(0, 0), "started at step 0 of 870"),
        (started(5, 0), "resumed from step 5 of 870"),
        (step(3, 0), "step 3: loss 2  4,910 tok/s"),
        (step(3, 0, reward_accuracy=0.75), "step 3: loss 2  accuracy 0.75  4,910 tok/s"),
        (
            {"kind": "eval", "step": 4, "loss": 1.25, "rows": 3},
            "step 4: evaluation: loss 1.25, rows 3",
        ),
        (
            {"kind": "sample", "step": 4, "prompt": "a\nb", "text": "x" * 99},
            f"step 4: sample: a b -> {'x' * 67}...",
        ),
        ({"kind": "checkpoint", "step": 9, "bytes": 3 << 20}, "step 9: checkpoint saved (3.0 MiB)"),
        ({"kind": "error", "message": "loss is nan"}, "error: loss is nan"),
        ({"kind": "request", "number": 3, "name": "save"}, "request 3 (save): request"),
        (
            {"kind": "answered", "number": 3, "name": "save", "step": 7},
            "step 7: request 3 (save): answered",
        ),
        ({"kind": "finished", "state": "done", "step": 9}, "step 9: done"),
        ({"kind": "novelty", "v": 9, "t": 1, "x": 1}, "novelty: x 1"),
    ],
)  # fmt: skip
def test_describe(event: dict[str, Any], text: str) -> None:
    assert describe(event) == text


def test_width_of_a_real_terminal_and_of_none() -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream, os.fdopen(leader, "rb"):
        assert progress.width(stream) >= 1
    assert progress.width(io.StringIO()) == 80


def test_following_a_deleted_run_is_one_clear_error(planned: Run) -> None:
    with events.Heartbeat(planned) as beat:
        turns = progress.follow(planned, interval=0.001)
        assert next(turns) == ("running", [])
        shutil.rmtree(planned.path)
        with pytest.raises(FtlabError, match="deleted or moved"):
            list(turns)
        with pytest.raises(FtlabError, match="deleted or moved"):
            beat.finish("done")


def test_follow_ends_with_the_last_events(planned: Run) -> None:
    turns = progress.follow(planned, interval=0.001)
    assert next(turns) == ("planned", [])
    assert list(turns) == []
    with events.EventWriter(planned.events_path) as writer, events.Heartbeat(planned) as beat:
        turns = progress.follow(planned, interval=0.001)
        assert next(turns) == ("running", [])
        writer.write("step", step=1)
        beat.finish("done")
        state, last = next(turns)
    assert state == "done"
    assert [e["kind"] for e in last] == ["step"]
    assert list(turns) == []
