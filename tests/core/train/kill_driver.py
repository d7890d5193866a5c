"""Trains a run in forked children that are SIGKILLed at random instants, then once to its end.

    python kill_driver.py RUN_DIR KILLS

Forking after the imports makes a trial take a second instead of ten. An instant is counted in
events of the child (steps, checkpoints) and a few milliseconds more, so it does not depend on how
busy the machine is. Prints {"killed": n}; the exit code is that of the last child.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import peft  # noqa: F401 - imported before the forks
import torch
import transformers.models.llama.modeling_llama  # noqa: F401

import ftlab.train.build  # noqa: F401
from ftlab.train.__main__ import main

MOST_EVENTS = 5
LONGEST_REST = 0.03  # seconds after the last awaited event
PATIENCE = 60.0


def child(run: Path) -> int:
    """Start a trainer that goes on from the newest checkpoint; its pid."""
    pid = os.fork()
    if pid == 0:
        os.dup2(2, 1)
        code = 70
        try:
            code = main([str(run), "--resume"])
        finally:
            os._exit(code)
    return pid


def lines_after(path: Path, offset: int) -> int:
    """Lines of `path` that end behind byte `offset`."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        file.seek(offset)
        return file.read().count(b"\n")


def trial(run: Path, events: int, rest: float) -> bool:
    """Kill a trainer `rest` seconds after it wrote `events` events; whether it still lived."""
    path = run / "events.jsonl"
    offset = path.stat().st_size if path.exists() else 0
    pid, deadline = child(run), time.monotonic() + PATIENCE
    while lines_after(path, offset) < events and time.monotonic() < deadline:
        if os.waitpid(pid, os.WNOHANG)[0]:
            return False
        time.sleep(0.001)
    time.sleep(rest)
    os.kill(pid, signal.SIGKILL)
    return os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def drive(run: Path, kills: int) -> int:
    """Kill that often, then let it finish."""
    torch.set_num_threads(1)
    numbers, killed = random.Random(f"{kills} {run.name}"), 0
    for _ in range(kills):
        killed += trial(run, numbers.randint(0, MOST_EVENTS), numbers.uniform(0, LONGEST_REST))
    _, status = os.waitpid(child(run), 0)
    print(json.dumps({"killed": killed}))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(drive(Path(sys.argv[1]), int(sys.argv[2])))
