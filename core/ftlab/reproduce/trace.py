"""One step of a run, tensor by tensor: asked for, read, and compared. Standard library only.

`traces/step-N.jsonl` in a run holds a line on the step and then one for every tensor that step made
in the order they were made: what each layer gave forward and backward, the gradient of every
parameter after each micro-batch, and every parameter after the update. The first line in which two
traces differ names where two runs parted, because all lines before it are equal.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.run import Run

VERSION = 1
FOLDER = "traces"
REQUEST = "trace.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """One tensor."""

    where: str  # forward, backward, reference, gradient or update
    micro: int  # micro-batch of the step, from 1; 0 for the update
    layer: int  # -1 for parameters
    place: str  # in the layer, or the parameter's name
    shape: tuple[int, ...]
    dtype: str
    norm: float  # Euclidean, in fp64: how far apart two are, where bits differ
    hash: str

    def __str__(self) -> str:
        if self.where == "update":
            return f"{self.place} after the update"
        if self.where == "gradient":
            return f"the gradient of {self.place} after micro-batch {self.micro}"
        what = {"backward": "the gradient of"}.get(self.where, "")
        pass_ = "reference pass" if self.where == "reference" else f"{self.where} pass"
        named = f"{what} {self.place} in layer {self.layer}".strip()
        return f"{named}, {pass_} of micro-batch {self.micro}"


@dataclass(frozen=True, slots=True)
class Trace:
    """A step that was traced."""

    step: int
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Parting:
    """Where two traces part: the number of the tensor, and what each of them has there."""

    number: int
    a: Entry | None
    b: Entry | None

    def __str__(self) -> str:
        if self.a is None or self.b is None or str(self.a) != str(self.b):
            return f"the steps make other tensors from number {self.number} on: {self.a} | {self.b}"
        if (self.a.shape, self.a.dtype) != (self.b.shape, self.b.dtype):
            kinds = [f"{list(e.shape)} {e.dtype}" for e in (self.a, self.b)]
            return f"{self.a}: {kinds[0]} | {kinds[1]}"
        return f"{self.a} (norm {self.a.norm!r} | {self.b.norm!r})"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {"number": self.number, "words": str(self),
                "a": self.a and asdict(self.a), "b": self.b and asdict(self.b)}  # fmt: skip


def path(run: Run, step: int) -> Path:
    """Where the trace of a step lies."""
    return run.path / FOLDER / f"step-{step}.jsonl"


def ask(run: Run, step: int) -> None:
    """Have the trainer that is started next trace that step, and end after it."""
    atomic.write_json(run.path / REQUEST, {"version": VERSION, "step": step})


def asked(run: Run) -> int:
    """The step that is to be traced, 0 for none."""
    file = run.path / REQUEST
    return int(atomic.read_json(file)["step"]) if file.is_file() else 0


def write(run: Run, trace: Trace) -> None:
    """Keep a trace in the run.

    Raises:
        EnvironmentUnfit: disk full, read-only or forbidden.
    """
    head = {"version": VERSION, "step": trace.step, "tensors": len(trace.entries)}
    lines = [json.dumps(value) for value in (head, *map(asdict, trace.entries))]
    file = path(run, trace.step)
    with atomic.clear_errors(file):
        file.parent.mkdir(exist_ok=True)
    atomic.write_text(file, "\n".join(lines) + "\n")


def read(run: Run, step: int) -> Trace | None:
    """The trace of a step; None where the run has none.

    Raises:
        FtlabError: it is damaged.
    """
    file = path(run, step)
    if not file.is_file():
        return None
    try:
        head, *rows = (json.loads(line) for line in file.read_text("utf-8").splitlines())
        entries = tuple(Entry(**{**row, "shape": tuple(row["shape"])}) for row in rows)
        whole = head["step"] == step and head["tensors"] == len(entries)
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise FtlabError(f"{file} is no trace: {error}") from error
    if not whole:
        raise FtlabError(f"{file} is not whole: remove it and trace the step again")
    return Trace(step, entries)


def first_difference(a: Trace, b: Trace) -> Parting | None:
    """The first tensor that is not the same, None when all bits are."""
    for number, (one, other) in enumerate(zip(a.entries, b.entries, strict=False), start=1):
        if (one.hash, str(one)) != (other.hash, str(other)) or one.shape != other.shape:
            return Parting(number, one, other)
    shorter = min(len(a.entries), len(b.entries))
    if len(a.entries) == len(b.entries):
        return None
    rest = [t.entries[shorter] if len(t.entries) > shorter else None for t in (a, b)]
    return Parting(shorter + 1, rest[0], rest[1])
