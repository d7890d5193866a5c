"""A trainer without a model: keeps the contract of the run directory at 10 ms a step.

    python fake_trainer.py RUN_DIR [--resume]

Steered by the environment: FAKE_STEP seconds of a step, FAKE_DIE_AT the step at which it kills
itself, FAKE_FAIL_AT the step at which it fails, FAKE_DEAF ignores requests and SIGTERM, FAKE_SLOW
seconds before it takes the lock, FAKE_MUTE dies before a word, FAKE_ROUNDING lets micro-batches
change the last places of the loss, FAKE_EVAL evaluates at the end: a loss of FAKE_EVAL + seed/100.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from ftlab import atomic, control, events, ledger
from ftlab.errors import FtlabError, Interrupted
from ftlab.reproduce import trace
from ftlab.run import Run

STEP = float(os.environ.get("FAKE_STEP", "0.01"))
DIE_AT = int(os.environ.get("FAKE_DIE_AT", "-1"))
FAIL_AT = int(os.environ.get("FAKE_FAIL_AT", "-1"))
DEAF = "FAKE_DEAF" in os.environ
EVAL = os.environ.get("FAKE_EVAL")
ROUNDING = float(os.environ.get("FAKE_ROUNDING", "0"))


def loss(step: int) -> float:
    """A curve that depends on the step alone."""
    return 2.0 / (1 + step / 10)


def save(run: Run, step: int, writer: events.EventWriter) -> None:
    """A checkpoint is the number of its step."""
    path = run.checkpoints_dir / f"step-{step:06d}.json"
    atomic.write_json(path, {"step": step})
    writer.write("checkpoint", step=step, path=path, bytes=path.stat().st_size)


def newest(run: Run) -> int:
    """The step of the newest checkpoint."""
    found = sorted(run.checkpoints_dir.glob("step-*.json"))
    return int(json.loads(found[-1].read_text())["step"]) if found else 0


def main() -> int:
    """Train; the exit code."""
    run, resume = Run(Path(sys.argv[1])), "--resume" in sys.argv
    if "FAKE_MUTE" in os.environ:
        print("ImportError: libcuda.so.1: cannot open shared object file", file=sys.stderr)
        return 1
    time.sleep(float(os.environ.get("FAKE_SLOW", "0")))
    terminated: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: None if DEAF else terminated.append(number))
    try:
        lock = run.lock()
    except FtlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    with lock, events.EventWriter(run.events_path) as writer:
        return train(run, resume, writer, terminated)


def train(run: Run, resume: bool, writer: events.EventWriter, terminated: list[int]) -> int:
    """The loop and its end: events, status, exit.json."""
    code, state, reason, step = 0, "done", "", newest(run) if resume else 0
    with events.Heartbeat(run, steps=run.plan().steps, interval=0.05) as heartbeat:
        try:
            step = loop(run, step, writer, heartbeat, terminated)
        except Interrupted as error:
            code, state, reason, step = 130, "stopped", str(error), newest(run)
        except FtlabError as error:
            code, state, reason = 1, "failed", str(error)
            writer.write("error", message=reason)
        writer.write("finished", state=state, step=step)
        atomic.write_json(
            run.exit_path, {"code": code, "state": state, "reason": reason, "step": step}
        )
        heartbeat.finish(state, reason)
    return code


def loop(
    run: Run,
    step: int,
    writer: events.EventWriter,
    heartbeat: events.Heartbeat,
    terminated: list[int],
) -> int:
    """Steps until the end, a request or a signal."""
    steps, inbox = run.plan().steps, control.Inbox(run)
    writer.write("started", step=step, steps=steps, resumed_from=step or None)
    with ledger.Ledger.open(run.ledger_path, step) as book:
        while step < steps:
            time.sleep(STEP)
            step += 1
            if step == DIE_AT:
                os.kill(os.getpid(), signal.SIGKILL)
            if step == FAIL_AT:
                raise FtlabError(f"loss is nan at step {step}")
            rounding = ROUNDING * int(run.plan().config.train.micro_batch_size)
            values: dict[str, Any] = {"loss": loss(step) + rounding, "grad_norm": 1.0, "lr": 1e-4}
            book.append(step=step, trained_tokens=100, batch_hash=step, **values)
            writer.write("step", step=step, epoch=step / steps, seconds=STEP, tok_s=5e3, **values)
            heartbeat.update(step=step)
            if step == trace.asked(run):
                made = trace.Entry("forward", 1, 0, "gate", (2, 2), "float32", 1.0, str(rounding))
                trace.write(run, trace.Trace(step, (made,)))
                save(run, step, writer)
                raise Interrupted(f"step {step} is traced")
            answer(run, step, writer, [] if DEAF else inbox.poll(), terminated)
    save(run, step, writer)
    if EVAL:
        measured = float(EVAL) + run.plan().config.train.seed / 100
        writer.write("eval", step=step, loss=measured, tokens=100)
    return step


def answer(
    run: Run,
    step: int,
    writer: events.EventWriter,
    requests: list[control.Request],
    terminated: list[int],
) -> None:
    """Answer requests by events; raises Interrupted after the save that a stop asks for."""
    for asked in requests:
        if asked.name in ("save", "stop"):
            save(run, step, writer)
        writer.write("answered", number=asked.number, name=asked.name, step=step)
    if terminated:
        save(run, step, writer)
        raise Interrupted("SIGTERM")
    if any(asked.name == "stop" for asked in requests):
        raise Interrupted("stop was asked for")


if __name__ == "__main__":
    sys.exit(main())
