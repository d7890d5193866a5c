"""A run that a trainer in another process writes 200 events a second to."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ftlab.run import Run

RATE = 200  # events per second
WRITER = """
import json, sys, time
event = json.loads(sys.argv[2])
with open(sys.argv[1], "a", buffering=1) as file:
    began = time.monotonic()
    for number in range(100_000):
        step = event["step"] + number
        file.write(json.dumps({**event, "step": step, "t": time.time(), "loss": 1 + step % 7 / 9,
                               "tokens_total": 4096 * step, "trained_total": 2000 * step}) + "\\n")
        time.sleep(max(0.0, began + (number + 1) / float(sys.argv[3]) - time.monotonic()))
"""


@pytest.fixture
def busy(make_run: Callable[..., Run], make_event: Callable[..., dict[str, Any]]) -> Iterator[Run]:
    """The run; it has 60 steps when it is given."""
    run = make_run("busy", 60, total=1_000_000, live=True)
    run.write_status(dataclasses.replace(run.status(), heartbeat=time.time()))
    arguments = [str(run.events_path), json.dumps(make_event(61)), str(RATE)]
    writer = subprocess.Popen([sys.executable, "-I", "-S", "-c", WRITER, *arguments])
    yield run
    writer.kill()
    writer.wait()
