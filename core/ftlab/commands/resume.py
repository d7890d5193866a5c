"""Go on with a run that was stopped, failed or was killed, from its newest complete checkpoint."""

from __future__ import annotations

import argparse

from ftlab.commands import common
from ftlab.commands.train import start_and_watch
from ftlab.commands.watch import where_it_resumes
from ftlab.errors import ConfigError
from ftlab.interrupts import Interrupts
from ftlab.run import LIVE


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument("--detach", action="store_true", help="return as soon as it is started")
    common.json_option(parser, "the run, its events and its end")


def main(args: argparse.Namespace) -> int:
    """Start the trainer again; its exit code."""
    run = common.find(args)
    state = run.liveness()
    if state == "done":
        raise ConfigError(f"run {run.id} is done; there is nothing to resume")
    if state not in LIVE:  # a live one is refused by the lock, which names its process
        common.say(f"run {run.id} is {state}: {where_it_resumes(run)}")
    with Interrupts() as interrupts:
        return start_and_watch(run, interrupts, args)
