"""Compare runs that are done: what differs, where it began, and a verdict for each.

The first run is compared with every other one. Exit code 0 when all of them have the same bits, or
stay inside the noise floor that `ftrun reproduce --calibrate` measured for the first; 4 when one
does not, like diff.

With --against two groups of runs that differ in their seeds are compared instead, by a test of
equivalence on the last evaluation: STATISTICAL where the difference of means is inside --margin.
"""

from __future__ import annotations

import argparse

from ftlab.commands import common
from ftlab.errors import ConfigError
from ftlab.reproduce import stats, text, verdict
from ftlab.run import Run


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="two or more runs, as elsewhere")
    parser.add_argument(
        "--against", metavar="RUN", nargs="+", default=[],
        help="the other group, three seeds or more; RUN... is the first",
    )  # fmt: skip
    parser.add_argument("--margin", type=float, help="largest difference of means that is none")
    parser.add_argument("--metric", default="loss", help="of the evaluation (default: loss)")
    common.runs_option(parser)
    common.json_option(parser, "the verdicts")


def main(args: argparse.Namespace) -> int:
    """Print a verdict per pair; 0 or 4."""
    if args.against:
        return _groups(args)
    if len(args.runs) < 2:
        raise ConfigError("compare needs two runs or more; `ftrun runs` lists them")
    first, *others = (Run.find(name, args.runs_dir) for name in args.runs)
    verdicts = [verdict.judge(first, other) for other in others]
    if args.json:
        common.put_json([found.to_json() for found in verdicts])
    else:
        print("\n\n".join(text.render(found) for found in verdicts))
    return max(found.exit_code for found in verdicts)


def _groups(args: argparse.Namespace) -> int:
    if args.margin is None:
        raise ConfigError("--against needs --margin: what difference would count as none?")
    a, b = (
        [Run.find(name, args.runs_dir) for name in names] for names in (args.runs, args.against)
    )
    found = stats.judge(a, b, args.metric, args.margin)
    if args.json:
        common.put_json(found.to_json())
    else:
        print(found)
    return found.exit_code
