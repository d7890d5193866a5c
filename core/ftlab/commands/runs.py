"""List the runs, oldest first."""

from __future__ import annotations

import argparse

from ftlab import summary
from ftlab.commands import common
from ftlab.run import Run

_HEADER = ("RUN", "STATE", "MODEL", "DATA", "METHOD", "STEP", "LOSS", "AGE")


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    common.runs_option(parser)
    common.json_option(parser, "the list")


def main(args: argparse.Namespace) -> int:
    """Print one line per run."""
    found = [summary.of(run) for run in Run.all(args.runs_dir)]
    if args.json:
        common.put_json(found)
    elif found:
        print(common.table(_HEADER, map(_row, found)))
    else:
        common.say(f"no runs in {args.runs_dir}; `ftrun train CONFIG` makes one")
    return 0


def age(seconds: float | None) -> str:
    """How long ago, in the largest unit that fits."""
    if seconds is None:
        return "-"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds:.0f}s"


def _row(run: dict[str, object]) -> tuple[str, ...]:
    loss, seconds = run["loss"], run["age"]
    return (
        str(run["id"]),
        str(run["state"]),
        _end(run["model"]),
        _end(run["data"]),
        str(run["method"] or "-"),
        f"{run['step']}/{run['steps']}",
        f"{loss:.4g}" if isinstance(loss, float) else "-",
        age(seconds if isinstance(seconds, float) else None),
    )


def _end(text: object, length: int = 28) -> str:
    """The end of a path or id: what tells it from others."""
    full = str(text or "-").rstrip("/")
    return full if len(full) <= length else "..." + full[3 - length :]
