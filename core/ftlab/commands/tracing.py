"""`ftrun reproduce RUN --trace STEP`: the step made again and compared tensor by tensor."""

from __future__ import annotations

import argparse
from typing import Any

from ftlab import launch, ledger
from ftlab.commands import common
from ftlab.commands.watch import watch
from ftlab.errors import ConfigError, Interrupted, VerdictNegative
from ftlab.interrupts import Interrupts
from ftlab.plan import Plan
from ftlab.reproduce import trace as traces
from ftlab.reproduce.trace import Parting
from ftlab.run import Run


def trace(original: Run, plan: Plan, args: argparse.Namespace, interrupts: Interrupts) -> int:
    """Run to the step, compare, tell; 0 where no bit differs, 4 where one does."""
    last = max((record.step for record in ledger.read(original.ledger_path)), default=0)
    if not 1 <= args.trace <= last:
        raise ConfigError(f"--trace takes a step of {original.id}: 1 to {last}, not {args.trace}")
    before = traces.read(original, args.trace)
    again = Run.create(plan, args.runs_dir, args.name)
    traces.ask(again, args.trace)
    launch.start(again)
    common.say(f"run {again.id} traces step {args.trace} of {original.id}: {again.path}")
    code = watch(again, interrupts, as_json=False)
    made = traces.read(again, args.trace)
    if made is None:
        return code or Interrupted.exit_code
    first = _first(original, again, args.trace)
    parting = None if before is None else traces.first_difference(before, made)
    if before is None and first is None:
        traces.write(original, made)
    _tell(original, again, args, first, parting, known=before is not None)
    return VerdictNegative.exit_code if first or parting else 0


def _first(original: Run, again: Run, step: int) -> ledger.Difference | None:
    """The first difference of the ledgers, up to the step."""
    found = ledger.first_difference(original.ledger_path, again.ledger_path)
    return None if found is None or found.step > step else found


def _tell(
    original: Run, again: Run, args: argparse.Namespace, first: ledger.Difference | None,
    parting: Parting | None, *, known: bool,
) -> None:  # fmt: skip
    if args.json:
        made: dict[str, Any] = {
            "step": args.trace, "original": original.id, "run": again.id, "compared": known,
            "first": None if first is None else {"step": first.step, "field": first.field},
            "tensor": None if parting is None else parting.to_json(),
        }  # fmt: skip
        common.put_json(made)
        return
    print("\n".join(_words(original, args.trace, first, parting, known)))


def _words(
    original: Run, step: int, first: ledger.Difference | None, parting: Parting | None, known: bool
) -> list[str]:
    if first is None:
        said = [f"every step up to {step} has the bits of {original.id}"]
    else:
        said = [f"first difference: {first}"]
    if parting is not None:
        said.append(f"first tensor of step {step} that differs: {parting}")
    elif known:
        said.append(f"no tensor of step {step} differs")
    elif first is None:
        said.append(f"{original.id} had no trace of step {step} and has this one now")
    else:
        said.append(
            f"{original.id} has no trace of step {step} to compare with: give this command where "
            f"its bits still come, then again here; a bundle carries the trace"
        )
    if first is not None and first.step < step:
        said.append(f"they parted before: --trace {first.step} names the first tensor of all")
    return said
