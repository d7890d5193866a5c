"""Follow a run in the foreground to its end: the bar, Ctrl-C, and what to do if it ended badly."""

from __future__ import annotations

import sys
import time
from typing import Any

from ftlab import control, launch, summary
from ftlab.commands.common import put_json, say
from ftlab.errors import FtlabError
from ftlab.interrupts import Interrupts
from ftlab.progress import Bar, duration, follow
from ftlab.run import FINAL, LIVE, Run

_SAVING = "saving; press Ctrl-C again to leave it running in the background"
_LAST_WORDS = 30.0  # seconds for a trainer that has ended to write its manifest and go


def watch(run: Run, interrupts: Interrupts, *, as_json: bool, offset: int = 0) -> int:
    """Follow `run` until it ends or is left; the exit code.

    Args:
        interrupts: the first asks the trainer to save and stop, the second leaves it alone.
        as_json: print every event as a JSON line on stdout, and at last how it ended.
        offset: byte of events.jsonl to begin at.
    """
    bar, asked, began = Bar(sys.stderr), False, time.monotonic()
    try:
        for state, events in follow(run, offset=offset):
            for event in events:
                bar.event(event)
                if as_json:
                    put_json(event, indent=None)
            bar.tick(state, run.status())
            if interrupts.count > int(asked) and state in LIVE:
                if asked:
                    bar.clear()
                    return _leave(run)
                asked = _ask_to_stop(run, bar)
    finally:
        bar.clear()
    return _ended(run, interrupts, as_json, time.monotonic() - began)


def _ask_to_stop(run: Run, bar: Bar) -> bool:
    try:
        control.request(run, "stop")
        bar.say(_SAVING)
    except FtlabError as error:
        bar.say(f"warning: cannot ask the trainer to stop: {error}")
    return True


def _leave(run: Run) -> int:
    say(f"run {run.id} goes on in the background: it will save and stop by itself")
    say(f"  follow it:   ftrun tail -f {run.path}")
    say(f"  end it now:  ftrun stop --now {run.path}")
    return 130


def _ended(run: Run, interrupts: Interrupts, as_json: bool, seconds: float) -> int:
    _await_last_words(run, interrupts)
    state, end = run.liveness(), run.exit() or {}
    code = _code(state, end)
    if as_json:
        put_json({"kind": "exit", "run": run.id, "path": run.path, **end, "state": state,
                  "code": code}, indent=None)  # fmt: skip
    tell_end(run, state, end, seconds)
    return code


def tell_end(run: Run, state: str, end: dict[str, Any], seconds: float | None = None) -> None:
    """Say on stderr how a run ended and what to do next."""
    took = f" after {duration(seconds)}" if seconds is not None else ""
    if told := launch.ending(run):
        say(f"run {run.id}: {told}")
    if state == "done":
        say(f"run {run.id} is done{took}: {run.status().step} steps")
        adapter = run.export_dir / "adapter"
        say(f"  result: {adapter if adapter.is_dir() else run.export_dir}")
        return
    if state == "lost":
        say(f"run {run.id} is lost: its trainer is gone and left no word. The end of its log:")
        for line in summary.log_tail(run):
            say(f"  | {line}")
    else:
        reason = end.get("reason") or run.status().message
        say(f"run {run.id} {state}{took}" + (f": {reason}" if reason else ""))
        if state == "failed":
            say(f"  log:    {run.log_path}")
    say(f"  {where_it_resumes(run)}: ftrun resume {run.path}")


def where_it_resumes(run: Run) -> str:
    """From which checkpoint a resume would go on."""
    checkpoint = summary.newest_checkpoint(run)
    if checkpoint is None:
        return "no checkpoint is complete, so it would begin anew"
    return f"saved at step {summary.checkpoint_step(checkpoint)}, to go on"


def _await_last_words(run: Run, interrupts: Interrupts) -> None:
    """Wait for the process that ended to finish its files; another Ctrl-C does not wait."""
    process, before = run.process(), interrupts.count
    deadline = time.monotonic() + _LAST_WORDS
    while process and process.alive() and run.status().state in FINAL:
        if time.monotonic() > deadline or interrupts.count > before:
            return
        time.sleep(0.05)


def _code(state: str, end: dict[str, Any]) -> int:
    code = end.get("code")
    if state in FINAL and isinstance(code, int):
        return code
    return {"done": 0, "stopped": 130}.get(state, 1)
