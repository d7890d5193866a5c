"""Alarms: each cause raises its own, and a healthy run none."""

from __future__ import annotations

import dataclasses

import pytest

from ftlab.process import monotonic
from ftlab_tui.monitor.alarms import judge
from ftlab_tui.reading.gpus import GpuNow
from ftlab_tui.reading.live import LiveRun

GPU = GpuNow(0, "H100", "GPU-a", 1, 2, 90, 60, 300.0, 700.0)


def watch(run) -> LiveRun:  # type: ignore[no-untyped-def]
    live = LiveRun(run)
    while live.poll():
        pass
    live.look()
    return live


def keys(live: LiveRun, *rest: object) -> set[str]:
    return {alarm.key for alarm in judge(live, *rest)}  # type: ignore[arg-type]


def test_a_healthy_run_has_none(make_run) -> None:  # type: ignore[no-untyped-def]
    assert keys(watch(make_run("r", 100, live=True)), [GPU], 1 << 40) == set()


@pytest.mark.parametrize(
    ("changed", "key"),
    [({"loss": 9.0}, "spike"), ({"loss": None, "nonfinite": {"loss": "nan"}}, "nan"),
     ({"grad_norm": None, "nonfinite": {"grad_norm": "inf"}}, "nan")],
)  # fmt: skip
def test_losses(make_run, make_event, changed, key) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 100, live=True)
    make_run.append(run, make_event(101, **changed))
    assert keys(watch(run)) == {key}


def test_overflow_of_fp16_is_skipped_steps_not_nan(make_run, make_event) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 100, live=True)
    odd = {"grad_norm": None, "nonfinite": {"grad_norm": "inf"}, "skipped": True}
    make_run.append(run, make_event(101, **odd))
    assert keys(watch(run)) == {"skipped"}


def test_slow_down(make_run, make_event) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 100, live=True)
    make_run.append(run, *(make_event(s, tok_s=2000.0) for s in range(101, 107)))
    assert keys(watch(run)) == {"slow"}


def test_hardware(make_run) -> None:  # type: ignore[no-untyped-def]
    live = watch(make_run("r", 100, live=True))
    hot = dataclasses.replace(GPU, throttle=("power cap", "too hot"))
    capped = dataclasses.replace(GPU, throttle=("power cap",))
    assert keys(live, [hot], 1 << 40) == {"throttle"}
    assert keys(live, [capped], 1 << 40) == set()
    assert keys(live, [], 1 << 20) == {"disk"}


def test_states(make_run) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 100, live=True)
    silent = dataclasses.replace(run.status(), monotonic=monotonic() - 30)
    run.write_status(silent)
    assert keys(watch(run)) == {"heartbeat"}
    run.write_status(dataclasses.replace(silent, start_time=1))
    assert keys(watch(run)) == {"lost"}
    run.write_status(dataclasses.replace(silent, state="failed", message="no space"))
    alarm = judge(watch(run))[0]
    assert (alarm.key, alarm.severe) == ("failed", True)
    assert "no space" in alarm.text
