"""Say everything that would happen, every automatic choice with its reason, without doing it."""

from __future__ import annotations

import argparse
import sys

from ftlab.commands import common


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.config_arguments(parser)
    common.runs_option(parser)
    parser.add_argument(
        "--machine",
        metavar="FILE",
        help='plan for another machine: its facts as JSON ("machine" of a plan, or '
        "`python -m ftlab.probe --machine`); model and data are read here",
    )
    common.json_option(parser, "the plan")


def main(args: argparse.Namespace) -> int:
    """Print the plan on stdout."""
    from ftlab import plan as plans

    config, _ = common.read_config(args)
    plan = common.make_plan(config, args.runs_dir, args.machine)
    if args.json:
        common.put_json(plans.to_json(plan))
    else:
        print(common.plan_text(plan, sys.stdout))
    return 0
