"""Fill the reproducibility items of the NeurIPS and ACL checklists from the registry of runs.

RUN... are the runs a paper reports, all of them done. Those that differ in their seeds alone are
taken together: mean, sd and 95 % interval. Every run in the folder of runs is counted, with its
time, also those that failed and those in the trash. What no registry knows is listed as open.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict

from ftlab.commands import common
from ftlab.reproduce import checklist, checklist_text
from ftlab.run import Run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="the reported runs, as elsewhere")
    parser.add_argument(
        "--format", choices=tuple(checklist_text.FORMATS), default="markdown",
        help="(default: markdown)",
    )  # fmt: skip
    common.runs_option(parser)
    common.json_option(parser, "the items")


def main(args: argparse.Namespace) -> int:
    """Print the checklist."""
    runs = [Run.find(name, args.runs_dir) for name in args.runs]
    found = checklist.items(runs, args.runs_dir)
    if args.json:
        common.put_json([asdict(item) for item in found])
    else:
        print(checklist_text.FORMATS[args.format](found), end="")
    return 0
