"""Trains a run in forked children that are SIGKILLed at random instants, then once to its end.

    python kill_driver.py RUN_DIR KILLS

Forking after the imports makes a trial take a second instead of ten. Prints {"killed": n}; the exit
code is that of the last child.
"""

from __future__ import annotations

import contextlib
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

LONGEST = 1.5  # seconds until a kill


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


def trial(run: Path, seconds: float) -> bool:
    """Whether a trainer was killed after `seconds`; False when it was done before."""
    pid = child(run)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def drive(run: Path, kills: int) -> int:
    """Kill until the wanted number is reached, however far the run is; then let it finish."""
    torch.set_num_threads(1)
    numbers, killed = random.Random(run.name), 0
    while killed < kills:
        limit = LONGEST if killed < kills // 2 else LONGEST / 3
        killed += trial(run, numbers.uniform(0.0, limit))
    _, status = os.waitpid(child(run), 0)
    print(json.dumps({"killed": killed}))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(drive(Path(sys.argv[1]), int(sys.argv[2])))
