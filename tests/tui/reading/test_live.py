"""A run as a viewer sees it: figures, sessions, time left; odd things are told, never raised."""

from __future__ import annotations

import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftlab.run import Run
from ftlab_tui.reading.live import LONG, LiveRun

START = 1_700_000_000.0


def read(live: LiveRun) -> LiveRun:
    while live.poll():
        pass
    live.look()
    return live


def test_figures_samples_and_best(make_run) -> None:  # type: ignore[no-untyped-def]
    live = read(LiveRun(make_run("r", 60, live=True)))
    assert (live.step, live.total_steps, live.state) == (60, 200, "running")
    assert len(live.train) == 60
    assert live.best == (pytest.approx(1 + 10 / 60), 60)
    first, newest = live.samples["What is 2+2?"]
    assert (first["text"], newest["text"]) == ("Answer 20", "Answer 60")
    assert live.left(START + 60) == pytest.approx(140)
    assert live.elapsed(START + 60) == pytest.approx(60)
    assert not live.preference
    assert live.oddities.describe() == []


def test_after_a_resume_the_time_left_is_that_of_this_session(make_run, make_event) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 60, live=True)
    later = START + 9000
    make_run.append(run, {"t": later, "kind": "started", "step": 40, "steps": 200,
                          "resumed_from": 40})  # fmt: skip
    make_run.append(run, *(make_event(s, t=later + 2 * (s - 40)) for s in range(41, 51)))
    live = read(LiveRun(run))
    assert len(live.train) == 50
    assert len(live.evals) == 2
    assert len(live.sessions) == 2
    assert live.left(later + 20) == pytest.approx(300)
    assert live.elapsed(later + 20) == pytest.approx(80)


def test_odd_lines_are_told(make_run, make_event) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 10)
    make_run.append(
        run, {"kind": "novelty", "t": 1}, {"kind": "step", "step": "x"},
        make_event(11, t=START - 9999), make_event(12, loss=None), make_event(13, extra="text"),
    )  # fmt: skip
    with run.events_path.open("a") as file:
        file.write('garbage\n{"kind":"step","step":14,"lo')
    live = read(LiveRun(run))
    told = "\n".join(live.oddities.describe())
    assert "1 lines of events.jsonl are no events" in told
    assert "novelty (1)" in told
    assert "the clock was set" in told
    assert live.step == 13
    assert math.isnan(live.train.columns["loss"].values[11])
    assert live.elapsed() >= 0


def test_nan_comes_back(make_run, make_event) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 3)
    make_run.append(run, make_event(4, loss=None, nonfinite={"loss": "nan"}))
    assert math.isnan(read(LiveRun(run)).train.last("loss"))


def test_deleted_replaced_and_read_only(make_run) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 30)
    live = read(LiveRun(run))
    beside = run.path / "new"
    beside.write_text(json.dumps({"kind": "started", "t": 1, "step": 0, "steps": 9}) + "\n")
    beside.replace(run.events_path)
    read(live)
    assert (len(live.train), live.total_steps) == (0, 9)
    os.chmod(run.path, 0o500)
    assert read(live).state == "stopped"
    os.chmod(run.path, 0o700)
    shutil.rmtree(run.path)
    live.poll()
    assert live.look() == "deleted"
    assert "deleted or moved" in live.oddities.describe()[0]


def test_requests_wait_for_their_answer(make_run) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 5)
    make_run.append(run, {"kind": "request", "number": 1, "name": "save", "t": START + 6})
    live = read(LiveRun(run))
    assert list(live.waiting) == [1]
    make_run.append(run, {"kind": "answered", "number": 1, "name": "save", "t": START + 6})
    assert not read(live).waiting


BIG = """
import sys, time
from pathlib import Path
from ftlab.run import Run
from ftlab_tui.reading.live import LiveRun
from ftlab_tui.reading.logtail import LogTail
began = time.process_time()
live, log = LiveRun(Run(Path(sys.argv[1]))), LogTail(Path(sys.argv[1]) / "log.txt")
log.poll()
slowest = 0.0
while True:
    start = time.process_time()
    more = live.poll(0.012)
    slowest = max(slowest, time.process_time() - start)
    if not more:
        break
live.train.buckets("loss", 0, 1e9, 300)
# Not ru_maxrss: it keeps what the parent held when it forked.
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print(time.process_time() - began, peak, len(live.train), slowest)
"""


def test_a_long_history_is_told_in_outline_first(make_run, make_event) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 60, total=30_000, live=True)
    make_run.append(run, *(make_event(step) for step in range(61, 20_001)))
    assert run.events_path.stat().st_size > LONG
    live = LiveRun(run)
    live.look()
    known = live.outline()
    assert known is not None
    assert known.loaded == 0
    assert (known.state, known.step, known.total_steps) == ("running", 20_000, 30_000)
    assert known.left(START + 20_000) == pytest.approx(10_000)
    assert known.train.steps[0] == 1
    assert 1000 < len(known.train) < 5000
    assert max(b - a for a, b in itertools.pairwise(known.train.steps)) < 100
    assert known.elapsed(START) == 0  # stretches do not tell when it paused
    read(live)
    assert known.loaded == 1
    assert known.train.last("loss") == live.train.last("loss")
    assert LiveRun(make_run("short", 10)).outline() is None


@pytest.mark.quiet
def test_a_long_run_is_read_quickly_and_in_little_memory(
    tmp_path: Path, make_event, slowness: float
) -> None:  # type: ignore[no-untyped-def]
    """100,000 steps and a log of a million lines, in processor time, the best of three."""
    with (tmp_path / "events.jsonl").open("w") as file:
        file.writelines(json.dumps(make_event(step)) + "\n" for step in range(1, 100_001))
    with (tmp_path / "log.txt").open("w") as file:
        for _ in range(100):
            file.write("a line of the log that says something\n" * 10_000)
    folder = Path(__file__).parents[3]
    path = os.pathsep.join(str(folder / name) for name in ("core", "kernels", "tui", "doctor"))
    # Tracing for the coverage of core would be timed as well.
    bare = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    seen = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", BIG, str(tmp_path)], capture_output=True, text=True, check=True,
            env={**bare, "PYTHONPATH": path},
        )  # fmt: skip
        seconds, peak, steps, slowest = map(float, done.stdout.split())
        assert steps == 100_000
        assert peak < 200
        seen.append((seconds, slowest))
    assert min(seen)[0] < 1.0 * slowness
    assert min(slowest for _, slowest in seen) < 0.05 * slowness


def test_nothing_there_yet(tmp_path: Path) -> None:
    live = read(LiveRun(Run(tmp_path / "none")))
    assert live.state == "deleted"
    assert live.left(time.time()) is None
