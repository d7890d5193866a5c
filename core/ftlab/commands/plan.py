"""Say everything that would happen, every automatic choice with its reason, without doing it."""

from __future__ import annotations

import argparse
import sys

from ftlab.commands import common


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.config_arguments(parser)
    common.runs_option(parser)
    common.json_option(parser, "the plan")


def main(args: argparse.Namespace) -> int:
    """Print the plan on stdout."""
    from ftlab import plan as plans

    config, _ = common.read_config(args)
    plan = common.make_plan(config, args.runs_dir)
    if args.json:
        common.put_json(plans.to_json(plan))
    else:
        print(common.plan_text(plan, sys.stdout))
    return 0
