"""Train a config.

Says the plan, starts the trainer as a process of its own, and follows it. Ctrl-C once: the trainer
saves and stops (exit code 130). Twice: it is left alone. Closing the terminal does not end it.
"""

from __future__ import annotations

import argparse
import sys

from ftlab import launch, registry
from ftlab.commands import common
from ftlab.commands.watch import watch
from ftlab.interrupts import Interrupts
from ftlab.launch import fitness
from ftlab.run import Run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.config_arguments(parser)
    common.runs_option(parser)
    parser.add_argument(
        "--in", metavar="WHERE", dest="where", help="short for --set launch.where=WHERE"
    )
    parser.add_argument("--name", metavar="ID", help="name of the run (default: made up)")
    parser.add_argument("--detach", action="store_true", help="return as soon as it is started")
    parser.add_argument(
        "--no-doctor", action="store_true", help="start without the doctor's look at GPU and driver"
    )
    parser.add_argument("--quiet", action="store_true", help="do not print the plan")
    common.json_option(parser, "the run, its events and its end")


def main(args: argparse.Namespace) -> int:
    """Plan, start, follow; the exit code of the trainer."""
    config, text = common.read_config(args)
    launch.check(config.launch.where)
    registry.check(args.runs_dir, args.name)
    plan = common.make_plan(config, args.runs_dir)
    if not args.no_doctor:
        fitness.check(plan)
    if not args.quiet and not args.json:
        common.say(common.plan_text(plan, sys.stderr))
    with Interrupts() as interrupts:
        run = Run.create(plan, args.runs_dir, args.name, config_text=text)
        return start_and_watch(run, interrupts, args)


def start_and_watch(run: Run, interrupts: Interrupts, args: argparse.Namespace) -> int:
    """Start or resume the trainer, say where it is, and follow it unless --detach."""
    offset = run.events_path.stat().st_size if run.events_path.exists() else 0
    pid = launch.start(run, resume=run.liveness() != "planned")
    if args.json:
        common.put_json({"kind": "run", "run": run.id, "path": run.path, "pid": pid}, indent=None)
    else:
        print(run.path, flush=True)
    if args.detach:
        common.say(f"run {run.id} is running; follow it: ftrun tail -f {run.path}")
        return 0
    if not args.json and not sys.stderr.isatty():
        common.say(f"run {run.id} is running; its log: {run.log_path}")
    return watch(run, interrupts, as_json=args.json, offset=offset)
