"""Print a commented config to start from: `ftrun init > run.yaml`."""

from __future__ import annotations

import argparse

from ftlab.commands import common


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("preset", metavar="PRESET", nargs="?", default="standard")
    parser.add_argument("--list", action="store_true", help="list the presets")


def main(args: argparse.Namespace) -> int:
    """Print a preset with every setting explained."""
    from ftlab import configtext, presets

    if args.list:
        rows = [(name, presets.description(name)) for name in presets.names()]
        print(common.table(("PRESET", "WHAT IT IS FOR"), rows))
        return 0
    chosen, title = presets.mapping(args.preset), presets.description(args.preset)
    print(configtext.commented(chosen, title), end="")
    return 0
