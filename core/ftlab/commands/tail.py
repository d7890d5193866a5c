"""Print the last events of a run, and with -f follow it to its end; it is only watched."""

from __future__ import annotations

import argparse
import sys

from ftlab import events, summary
from ftlab.commands import common
from ftlab.commands.watch import tell_end
from ftlab.progress import Bar, describe, follow
from ftlab.run import LIVE, Run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run ends")
    parser.add_argument("-n", metavar="N", type=int, default=20, help="events shown (default: 20)")
    parser.add_argument("--log", action="store_true", help="the trainer's log instead of events")
    common.json_option(parser, "every event on a line of its own")


def main(args: argparse.Namespace) -> int:
    """Print events on stdout; Ctrl-C ends the watching, not the run."""
    run = common.find(args)
    try:
        return _log(run, args.n) if args.log else _events(run, args)
    except KeyboardInterrupt:
        common.say(f"\nno longer watching; run {run.id} is {run.liveness()}")
        return 0


def _log(run: Run, lines: int) -> int:
    for line in summary.log_tail(run, lines):
        print(line)
    return 0


def _events(run: Run, args: argparse.Namespace) -> int:
    found, offset = events.read(run.events_path)
    for event in found[-args.n :] if args.n > 0 else []:
        _print(event, args.json)
    return _follow(run, offset, args.json) if args.follow else 0


def _follow(run: Run, offset: int, as_json: bool) -> int:
    """Events on stdout; the bar too where stdout is not the terminal it would be drawn on."""
    bar = Bar(sys.stderr, terminal=sys.stderr.isatty() and not sys.stdout.isatty())
    state, seen = "", False
    for state, new in follow(run, offset=offset):
        seen = seen or state in LIVE
        bar.clear()
        for event in new:
            bar.pace.feed(event)
            _print(event, as_json)
        bar.tick(state, run.status())
    bar.clear()
    tell_end(run, state, run.exit() or {})
    return 0


def _print(event: dict[str, object], as_json: bool) -> None:
    common.put_json(event, indent=None) if as_json else print(describe(event), flush=True)
