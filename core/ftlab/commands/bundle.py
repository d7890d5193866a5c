"""Put a finished run into one file that `ftrun reproduce` takes on another machine.

It holds manifest, ledger, config, plan, the recipe of the batches, the environment's lock and the
result, each with its sha256; model and data are not in it. The same run gives the same bytes, so
the sha256 that is printed names the run for good. The path is printed on stdout.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ftlab.commands import common
from ftlab.reproduce import bundle


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.run_argument(parser)
    parser.add_argument(
        "--to", metavar="FILE",
        help=f"file or folder to write to (default: ./RUN{bundle.SUFFIX})",
    )  # fmt: skip
    parser.add_argument(
        "--no-weights",
        action="store_true",
        help="leave the trained tensors out; their hashes, which a verdict needs, stay",
    )
    common.json_option(parser, "path, size, sha256 and members")


def main(args: argparse.Namespace) -> int:
    """Write the bundle and print where it is."""
    run = common.find(args)
    target = Path(args.to or ".")
    if target.is_dir():
        target = target / f"{run.id}{bundle.SUFFIX}"
    made = bundle.write(run, target, weights=not args.no_weights)
    if args.json:
        common.put_json(asdict(made))
        return 0
    print(made.path)
    common.say(f"{made.bytes:,} bytes, sha256 {made.sha256}")
    for words in made.lacking:
        common.say(f"  note: {words}")
    return 0
