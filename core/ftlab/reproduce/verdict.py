"""The verdict over two runs, in one of three words, with what it rests on. Standard library only.

    BITWISE         ledgers and outputs are equal in every bit
    NOT REPRODUCED  they are not; the first divergent step and field are named
    INCOMPARABLE    data, model or settings differ: no claim is made

There is no verdict "nearly": how far two curves may lie apart by rounding alone can only be said
after runs with a perturbed order of reduction, and none are made here.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ftlab import atomic, ledger
from ftlab.errors import VerdictNegative
from ftlab.identity import BITS, NUMERICS
from ftlab.reproduce import compare
from ftlab.reproduce.compare import Curve, FieldDifference, OutputDifference
from ftlab.run import Run

BITWISE, NOT_REPRODUCED, INCOMPARABLE = "BITWISE", "NOT REPRODUCED", "INCOMPARABLE"
VERDICT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The word, and everything it rests on."""

    word: str
    a: str  # ids of the runs
    b: str
    fields: tuple[FieldDifference, ...] = ()
    first: ledger.Difference | None = None
    outputs: tuple[OutputDifference, ...] = ()
    curve: Curve | None = None
    steps: int = 0  # records of the ledger of a

    @property
    def exit_code(self) -> int:
        """0 for a positive verdict, 4 for a negative one."""
        return 0 if self.word == BITWISE else VerdictNegative.exit_code

    def of_class(self, kind: str) -> tuple[FieldDifference, ...]:
        """The fields that differ, of one class."""
        return tuple(field for field in self.fields if field.kind == kind)

    def to_json(self) -> dict[str, Any]:
        """Everything as JSON values."""
        plain: dict[str, Any] = atomic.plain({**asdict(self), "version": VERDICT_VERSION})
        return {"verdict": plain.pop("word"), "exit_code": self.exit_code, **plain}


def judge(a: Run, b: Run) -> Verdict:
    """Whether run `b` reproduces run `a`; both are done.

    Raises:
        ConfigError: one of them is not.
        FtlabError: a ledger is missing or damaged.
    """
    differing = compare.fields(compare.sealed(a)["identity"], compare.sealed(b)["identity"])
    first = ledger.first_difference(a.ledger_path, b.ledger_path)
    changed = compare.outputs(a, b)
    if any(field.kind == NUMERICS for field in differing):
        word = INCOMPARABLE
    else:
        word = NOT_REPRODUCED if first or changed else BITWISE
    steps = len(ledger.read(a.ledger_path))
    curve = compare.curve(a.ledger_path, b.ledger_path)
    return Verdict(word, a.id, b.id, differing, first, changed, curve, steps)


def before_the_run(a: Run, b: str, identity: dict[str, Any]) -> Verdict | None:
    """INCOMPARABLE already by what a run would be, or None when it is worth running.

    Args:
        b: what to call the run that would be.
        identity: of it, as far as it is known before a step.
    """
    planned = {n: f for n, f in identity.items() if f.get("value") is not None}
    known = {n: f for n, f in compare.sealed(a)["identity"].items() if n in planned}
    differing = compare.fields(known, {n: planned[n] for n in known})
    if not any(field.kind == NUMERICS for field in differing):
        return None
    return Verdict(INCOMPARABLE, a.id, b, differing)


def suspects(verdict: Verdict) -> tuple[FieldDifference, ...]:
    """The fields that may be the reason for other bits."""
    return verdict.of_class(BITS)
