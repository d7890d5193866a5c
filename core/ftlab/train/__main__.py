"""The trainer process: `python -m ftlab.train RUN_DIR [--resume]`, started by `ftlab.launch`.

Thin: it takes the lock, listens for signals from the first moment, and trains: in this process, or
in as many as the plan says.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ftlab.errors import FtlabError
from ftlab.events import EventWriter
from ftlab.plan import Plan
from ftlab.run import Run
from ftlab.train.attempt import attempt
from ftlab.train.ranks.supervise import supervise
from ftlab.train.signals import StopSignal


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ftlab.train", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--resume", action="store_true", help="go on from its newest checkpoint")
    options = parser.parse_args(arguments)
    run = Run(options.run)
    try:
        with StopSignal() as stop, run.lock():
            plan = _of_several(run)
            if plan is not None:
                return supervise(run, plan, stop, resume=options.resume)
            with EventWriter(run.events_path) as events:
                return attempt(run, events, stop, resume=options.resume)
    except FtlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _of_several(run: Run) -> Plan | None:
    """The plan, where several processes train; one that cannot be read is the attempt's to tell."""
    try:
        plan = run.plan()
    except Exception:
        return None
    return plan if plan.world_size > 1 else None


if __name__ == "__main__":
    sys.exit(main())
