"""What a viewer asks of a trainer: save, evaluate, sample, stop; and the firmer ways to stop.

Requests go through control/; the trainer answers between two steps. A signal is sent only after the
person said so, and SIGKILL only after SIGTERM was not heard.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass

from ftlab import control
from ftlab.errors import FtlabError
from ftlab.run import LIVE, Run
from ftlab_tui.reading.live import LiveRun

WORDS = {"save": "save a checkpoint", "eval": "evaluate", "sample": "generate samples",
         "stop": "save and stop"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """What to tell the person. `number` is that of the request, 0 when none was made."""

    text: str
    ok: bool = True
    number: int = 0


def ask(run: Run, name: str) -> Answer:
    """Put a request into control/."""
    state = run.liveness()
    if state not in LIVE:
        return Answer(f"{run.id} is {state}: nobody would answer", False)
    try:
        number = control.request(run, name)
    except FtlabError as error:
        return Answer(str(error), False)
    return Answer(f"asked {run.id} to {WORDS[name]} after this step", True, number)


def end(run: Run, *, kill: bool = False) -> Answer:
    """Send SIGTERM, or SIGKILL to the trainer and its children."""
    process = run.process()
    if run.liveness() not in LIVE or process is None:
        return Answer(f"{run.id} is not running", False)
    word = "SIGKILL" if kill else "SIGTERM"
    try:
        sent = process.signal(signal.SIGKILL if kill else signal.SIGTERM, group=kill)
    except OSError as error:
        return Answer(f"cannot send {word} to process {process.pid}: {error.strerror}", False)
    if not sent:
        where = f" (it is on {process.host})" if process.host else ""
        return Answer(f"process {process.pid} cannot be reached from here{where}", False)
    return Answer(f"sent {word} to process {process.pid} of {run.id}")


def stop_question(live: LiveRun) -> tuple[str, str]:
    """The question before a stop, and what it means."""
    saved = max((int(e.get("step") or 0) for e in live.checkpoints), default=0)
    detail = (
        f"It finishes its step, saves a checkpoint (the last one is of step {saved}) and ends. "
        f"Resume goes on from there."
    )
    return f"Stop run {live.run.id} at step {live.step}?", detail


def end_question(live: LiveRun, kill: bool) -> tuple[str, str]:
    """The question before a signal, and what it means."""
    saved = max((int(e.get("step") or 0) for e in live.checkpoints), default=0)
    process = live.run.process()
    pid = process.pid if process else "?"
    if kill:
        lost = max(0, live.step - saved)
        detail = f"Nothing is saved: {lost} steps since the checkpoint of step {saved} are lost."
        return f"Kill process {pid} of run {live.run.id} (SIGKILL)?", detail
    detail = "SIGTERM is heard outside of a step too; the trainer still saves before it ends."
    return f"End process {pid} of run {live.run.id} now (SIGTERM)?", detail


def pending(asked: Mapping[int, str], live: LiveRun) -> list[str]:
    """Words for requests that have no answer yet: asked here, or by another viewer."""
    heard = {
        int(event.get("number") or 0): str(event.get("name"))
        for event in live.notable
        if event["kind"] == "answered"
    }
    names = [name for number, name in asked.items() if number not in heard]
    others = [
        str(event.get("name")) for number, event in live.waiting.items() if number not in asked
    ]
    return [f"{WORDS.get(name, name)}: waiting" for name in dict.fromkeys([*names, *others])]
