"""A run directory says, to anyone and from any version, what it is and whether it lives."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable

import pytest

from ftlab import atomic
from ftlab.plan import Plan
from ftlab.process import Identity
from ftlab.run import Run, Status


def running(**change: object) -> Status:
    """A status as this very process would write it now."""
    status = Status(
        state="running",
        **Identity.mine().to_dict(),
        heartbeat=time.time(),
        monotonic=time.clock_gettime(time.CLOCK_BOOTTIME),
    )
    return dataclasses.replace(status, **change)  # type: ignore[arg-type]


def test_a_fresh_run_is_planned_and_complete(planned: Run, make_plan: Callable[..., Plan]) -> None:
    assert planned.liveness() == "planned"
    assert planned.plan() == make_plan()
    assert planned.status().steps == 50
    assert planned.exit() is None
    assert planned.process() is None
    there = {path.name for path in planned.path.iterdir()}
    assert there == {
        "config.yaml", "plan.json", "status.json", "data", "checkpoints", "control", "export",
    }  # fmt: skip


def test_every_path_lies_in_the_run(planned: Run) -> None:
    names = [n for n in dir(Run) if n.endswith(("_path", "_dir"))]
    assert len(names) == 15
    assert all(getattr(planned, name).parent == planned.path for name in names)
    assert planned.path.is_absolute()


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({}, "running"),
        ({"state": "done"}, "done"),
        ({"state": "failed"}, "failed"),
        ({"state": "stopped"}, "stopped"),
        ({"monotonic": 1.0}, "stalled"),
        ({"start_time": 1}, "lost"),
        ({"pid": 2**22 + 1}, "lost"),
        ({"boot_id": "before the reboot"}, "lost"),
        ({"pid": None}, "running"),  # an older version without a pid: the heartbeat decides
        ({"heartbeat": 0.0}, "running"),  # the wall clock jumped: time since boot decides
    ],
)
def test_liveness(planned: Run, change: dict[str, object], state: str) -> None:
    planned.write_status(running(**change))
    assert planned.liveness() == state


@pytest.mark.parametrize(("age", "state"), [(5, "running"), (100, "stalled"), (2000, "lost")])
def test_liveness_of_a_trainer_that_cannot_be_seen(planned: Run, age: float, state: str) -> None:
    planned.write_status(
        running(boot_id="another", host="node7", heartbeat=time.time() - age, monotonic=0.0)
    )
    assert planned.liveness() == state


def test_started_but_silent_is_running_until_its_process_is_gone(planned: Run) -> None:
    atomic.write_json(planned.launch_path, Identity.mine().to_dict())
    assert planned.liveness() == "running"
    assert planned.process() == Identity.mine()
    atomic.write_json(planned.launch_path, Identity.mine().to_dict() | {"start_time": 1})
    assert planned.liveness() == "lost"


def test_a_run_that_ends_between_two_looks_is_not_lost(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = [running(start_time=1), running(start_time=1, state="done")]
    monkeypatch.setattr(Run, "status", lambda self: looks.pop(0))
    assert planned.liveness() == "done"


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_status_reads_as_planned(planned: Run, text: str) -> None:
    planned.status_path.write_text(text)
    assert planned.status() == Status()
    assert planned.liveness() == "planned"


def test_statuses_of_other_versions_are_read(planned: Run) -> None:
    planned.status_path.write_text('{"version": 9, "state": "done", "step": 3, "new": {"x": 1}}')
    assert (planned.status().step, planned.liveness()) == (3, "done")
    planned.status_path.write_text("{}")
    assert planned.liveness() == "planned"


def test_exit_is_read_or_none(planned: Run) -> None:
    planned.exit_path.write_text(json.dumps({"code": 130, "state": "stopped"}))
    assert planned.exit() == {"code": 130, "state": "stopped"}
    planned.exit_path.write_text("{")
    assert planned.exit() is None


def test_a_status_is_written_beside_and_renamed(planned: Run) -> None:
    before = os.stat(planned.status_path).st_ino
    planned.write_status(running(), durable=False)
    assert os.stat(planned.status_path).st_ino != before
