"""Ask a running trainer to save a checkpoint, evaluate, or generate samples after its step."""

from __future__ import annotations

import argparse

from ftlab import control
from ftlab.commands import common
from ftlab.errors import TryLater
from ftlab.progress import describe, follow
from ftlab.run import LIVE


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument("name", choices=[n for n in control.NAMES if n != "stop"])
    parser.add_argument("--wait", action="store_true", help="return when it is answered")
    common.json_option(parser, "number and answer")


def main(args: argparse.Namespace) -> int:
    """Ask, and wait for the answer when told to."""
    run = common.find(args)
    state = run.liveness()
    if state not in LIVE:
        raise TryLater(f"run {run.id} is {state}: nobody would answer")
    offset = run.events_path.stat().st_size if run.events_path.exists() else 0
    number = control.request(run, args.name)
    if not args.wait:
        common.say(f"request {number} ({args.name}) waits for the end of the step")
        if args.json:
            common.put_json({"run": run.id, "number": number})
        return 0
    for _, events in follow(run, offset=offset):
        for event in events:
            if event["kind"] == "answered" and event.get("number") == number:
                common.put_json(event) if args.json else print(describe(event))
                return 0
    raise TryLater(f"run {run.id} ended before it answered")
