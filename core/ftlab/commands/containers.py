"""List containers of ours that nobody needs any more, and remove them when asked.

A container stays when its trainer died without a word, so that it can be asked why; and one whose
run directory was deleted goes on unseen.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys

from ftlab.commands import common


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--clean", action="store_true", help="remove them without asking")
    common.json_option(parser, "the list")


def main(args: argparse.Namespace) -> int:
    """Print the orphans; remove them with --clean, or after a yes on a terminal."""
    from ftlab.launch import docker, docker_engine

    with docker_engine.session() as client:
        found = docker.orphans(client)
        if args.json:
            common.put_json([dataclasses.asdict(orphan) for orphan in found])
        elif found:
            rows = [(o.id[:12], o.run or "-", o.state, o.why) for o in found]
            print(common.table(("CONTAINER", "RUN", "STATE", "WHY"), rows))
        else:
            common.say("no container of ours is left over")
        if found and (args.clean or _agreed(args)):
            docker.clean(client, found)
            common.say(f"removed {len(found)}")
        return 0


def _agreed(args: argparse.Namespace) -> bool:
    if args.json or not sys.stdin.isatty() or not sys.stderr.isatty():
        return False
    sys.stderr.write("remove them? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
