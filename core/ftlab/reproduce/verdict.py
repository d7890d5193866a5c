"""The verdict over two runs, in one of four words, with what it rests on. Standard library only.

    BITWISE         ledgers and outputs are equal in every bit
    NUMERIC         the same batches at every step, and both curves stay inside the noise floor
                    that was calibrated for the first run (see `noise`)
    NOT REPRODUCED  neither; the first divergent step and field are named
    INCOMPARABLE    data, model or settings differ: no claim is made

STATISTICAL, the fifth word, is over groups of runs (see `stats`).

Without a calibrated floor there is no verdict "nearly": how far two curves may lie apart by
rounding alone is measured, never assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from ftlab import atomic, ledger
from ftlab.errors import VerdictNegative
from ftlab.identity import BITS, NUMERICS
from ftlab.ledger import Record
from ftlab.reproduce import compare, noise
from ftlab.reproduce.compare import Curve, FieldDifference, OutputDifference
from ftlab.reproduce.noise import Excess
from ftlab.run import Run

BITWISE, NUMERIC = "BITWISE", "NUMERIC"
NOT_REPRODUCED, INCOMPARABLE = "NOT REPRODUCED", "INCOMPARABLE"
VERDICT_VERSION = 1
# How rows lie in micro-batches is in the hash of the stream, and changes only the order of sums
# where the batches of every step hold the same rows, which the ledgers say.
_LAYOUT = "data.stream_sha256"
_LAID_BY = frozenset({
    "config.train.micro_batch_size", "config.data.packing", "decision.world_size",
})  # fmt: skip


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
    floor: tuple[str, ...] | None = None  # runs of the noise floor, where there is one
    excess: Excess | None = None  # where a curve leaves it

    @property
    def exit_code(self) -> int:
        """0 for a positive verdict, 4 for a negative one."""
        return 0 if self.word in (BITWISE, NUMERIC) else VerdictNegative.exit_code

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
    left, right = ledger.read(a.ledger_path), ledger.read(b.ledger_path)
    same = noise.same_stream(left, right)
    found = compare.fields(compare.sealed(a)["identity"], compare.sealed(b)["identity"])
    differing = _relaid(found) if same else found
    first = ledger.first_difference(a.ledger_path, b.ledger_path)
    changed = compare.outputs(a, b)
    curve = compare.curve(a.ledger_path, b.ledger_path)
    made = Verdict(BITWISE, a.id, b.id, differing, first, changed, curve, len(left))
    if any(field.kind == NUMERICS for field in differing):
        return replace(made, word=INCOMPARABLE)
    if not first and not changed:
        return made
    return _by_the_floor(made, noise.load(a), left, right)


def _by_the_floor(
    made: Verdict, floor: noise.Noise | None, left: Sequence[Record], right: Sequence[Record]
) -> Verdict:
    """NUMERIC or NOT REPRODUCED, for runs that are not equal in every bit."""
    if floor is None or not noise.same_stream(left, right):
        return replace(made, word=NOT_REPRODUCED)
    excess = noise.outside(floor, left, right)
    # Equal curves and other files: no rounding of the curves accounts for that.
    word = NOT_REPRODUCED if excess or made.first is None else NUMERIC
    return replace(made, word=word, floor=floor.runs, excess=excess)


def _relaid(found: tuple[FieldDifference, ...]) -> tuple[FieldDifference, ...]:
    """The differences, that of the layout with the class of what decided it."""
    reasons = [field.kind for field in found if field.name in _LAID_BY]
    if not reasons or NUMERICS in reasons:
        return found
    return tuple(replace(f, kind=BITS) if f.name == _LAYOUT else f for f in found)


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
