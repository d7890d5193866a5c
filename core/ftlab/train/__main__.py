"""The trainer process: `python -m ftlab.train RUN_DIR [--resume]`, started by `ftlab.launch`.

Thin: it takes the lock, listens for signals from the first moment, and however training ends it
says so in events.jsonl, manifest.json, exit.json and status.json.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ftlab import atomic, ledger, manifest
from ftlab.errors import FtlabError, Interrupted
from ftlab.events import EventWriter, Heartbeat
from ftlab.run import Run
from ftlab.train.signals import StopSignal


def main(arguments: Sequence[str] | None = None) -> int:
    """Train a run; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m ftlab.train", description=__doc__)
    parser.add_argument("run", type=Path, help="run directory")
    parser.add_argument("--resume", action="store_true", help="go on from its newest checkpoint")
    options = parser.parse_args(arguments)
    run = Run(options.run)
    try:
        with StopSignal() as stop, run.lock(), EventWriter(run.events_path) as events:
            return _attempt(run, events, stop, resume=options.resume)
    except FtlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


def _attempt(run: Run, events: EventWriter, stop: StopSignal, *, resume: bool) -> int:
    """One attempt, and its last words."""
    with Heartbeat(run) as heartbeat, _room(run):
        end = _work(run, events, heartbeat, stop, resume)
        if end["code"] not in (0, Interrupted.exit_code):
            _tell(f"error: {end['reason']}")
            _try(lambda: events.write("error", message=end["reason"]))
        end["step"] = _finished_steps(run)
        _try(lambda: events.write("finished", state=end["state"], step=end["step"]))
        _try(lambda: manifest.seal(run, end))
        _try(lambda: heartbeat.finish(end["state"], end["reason"]))
    return int(end["code"])


@contextlib.contextmanager
def _room(run: Run) -> Iterator[None]:
    """Room on the disk for the last words, while the block runs."""
    try:
        with contextlib.suppress(FtlabError):  # already full: whatever writes next says it
            manifest.reserve(run)
        yield
    finally:
        manifest.release(run)


def _work(
    run: Run, events: EventWriter, heartbeat: Heartbeat, stop: StopSignal, resume: bool
) -> dict[str, Any]:
    """Train, and put however that ends into words."""
    try:
        heartbeat.update(message="starting")
        plan = run.plan()
        from ftlab.train.build import Desk, train  # torch: seconds

        train(Desk(run, plan, events, heartbeat, stop), resume=resume)
        return {"state": "done", "code": 0, "reason": ""}
    except Interrupted as error:
        return {"state": "stopped", "code": error.exit_code, "reason": str(error)}
    except FtlabError as error:
        return {"state": "failed", "code": error.exit_code, "reason": str(error)}
    except OSError as error:  # such as a line of a library for log.txt, on a full disk
        _tell(traceback.format_exc())
        said = atomic.storage_error(error, error.filename or run.log_path)
        return {"state": "failed", "code": said.exit_code, "reason": str(said)}
    except Exception as error:
        _tell(traceback.format_exc())  # into log.txt: this one is a fault of ours
        return {"state": "failed", "code": 1, "reason": f"{type(error).__name__}: {error}"}


def _finished_steps(run: Run) -> int:
    """The newest step in the ledger: the one file that misses none."""
    try:
        return max((record.step for record in ledger.read(run.ledger_path)), default=0)
    except FtlabError:
        return 0


def _try(say: Callable[[], object]) -> None:
    """The last words must not hide why the attempt ended; a full disk may swallow them."""
    try:
        say()
    except FtlabError as error:
        _tell(f"error: {error}")


def _tell(text: str) -> None:
    """Write to log.txt, which a full disk refuses as well."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
