"""Ask a run to save and stop.

The trainer finishes its step, saves a checkpoint and ends with exit code 130; `ftrun resume` goes
on from there. --now does not wait for the step: SIGTERM, and SIGKILL when that is not heard for
30 s.
"""

from __future__ import annotations

import argparse
import time

from ftlab import control, launch
from ftlab.commands import common
from ftlab.commands.watch import tell_end
from ftlab.errors import TryLater
from ftlab.launch import local
from ftlab.run import LIVE, Run

_PATIENCE = 60.0  # seconds after which waiting names the firmer means


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument("--wait", action="store_true", help="return only when it has ended")
    parser.add_argument("--now", action="store_true", help="SIGTERM, after 30 s SIGKILL; waits")
    common.json_option(parser, "the state")


def main(args: argparse.Namespace) -> int:
    """Stop a run; 0 also when it was not running."""
    run = common.find(args)
    state = run.liveness()
    if state not in LIVE:
        common.say(f"run {run.id} is not running: it is {state}")
    elif args.now:
        state = launch.stop(run, 30.0, kill=True, ask=False)
    else:
        number = control.request(run, "stop")
        common.say(f"run {run.id} was asked to save and stop (request {number})")
        state = _wait(run) if args.wait else state
    if args.json:
        common.put_json({"run": run.id, "state": state})
    if (args.wait or args.now) and state in LIVE:
        raise TryLater(f"run {run.id} is still {state}; its process cannot be reached from here")
    if args.wait or args.now:
        tell_end(run, state, run.exit() or {})
    return 0


def _wait(run: Run) -> str:
    began, hinted = time.monotonic(), False
    while (state := local.wait(run, 1.0)) in LIVE:
        if not hinted and time.monotonic() - began > _PATIENCE:
            hinted = True
            common.say(f"no answer for 60 s; `ftrun stop --now {run.id}` does not wait for it")
    return state
