"""A run as a line of the table: what `summary` tells, the loss as a sparkline, tags, size.

Nothing is read whole: the sparkline looks at a few places of events.jsonl, whatever its length.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab import notes, summary, trash
from ftlab.errors import FtlabError
from ftlab.run import Run

_TICKS = "▁▂▃▄▅▆▇█"
_LOOK = 4096  # bytes read at each place
SORTS = ("created", "id", "state", "loss", "eval", "step", "size")


@dataclass(frozen=True, slots=True)
class Row:
    """One run."""

    run: Run
    state: str
    method: str
    model: str
    data: str
    step: int
    steps: int
    loss: float | None
    evaluation: float | None
    tok_s: float | None
    created: float
    size: int
    message: str
    tags: tuple[str, ...]
    note: str
    losses: tuple[float, ...]

    def text(self) -> str:
        """What a filter looks through."""
        words = (self.run.id, self.state, self.method, self.model, self.data, self.note)
        return " ".join((*words, *(f"#{tag}" for tag in self.tags))).lower()


def read(run: Run, places: int = 16) -> Row:
    """The line of a run. Damage of any kind reads as missing values."""
    try:
        seen = summary.of(run)
    except (FtlabError, OSError, ValueError, TypeError):
        seen = {"state": "damaged", "message": "its files cannot be read"}
    known, size = notes.read(run), trash.size(run.path)
    evaluation = seen.get("eval")
    return Row(
        run=run,
        state=str(seen.get("state")),
        method=str(seen.get("method") or "?"),
        model=str(seen.get("model") or "?"),
        data=str(seen.get("data") or "?"),
        step=int(seen.get("step") or 0),
        steps=int(seen.get("steps") or 0),
        loss=_number(seen.get("loss")),
        evaluation=_number(evaluation.get("loss")) if isinstance(evaluation, dict) else None,
        tok_s=_number(seen.get("tok_s")),
        created=float(seen.get("created") or 0),
        size=size,
        message=str(seen.get("message") or ""),
        tags=known.tags,
        note=known.text,
        losses=sample_losses(run.events_path, places),
    )


def stamp(run: Run) -> tuple[float, ...]:
    """Changes when the line of a run may have changed; cheap."""
    made = []
    for path in (run.status_path, run.events_path, notes.path(run)):
        try:
            stat = os.stat(path)
            made += [stat.st_mtime, stat.st_size]
        except OSError:
            made.append(0.0)
    return tuple(made)


def sample_losses(path: Path, places: int) -> tuple[float, ...]:
    """Losses at evenly spaced places of the file, in order; () when there are none."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            found = [
                _loss_near(os.pread(file.fileno(), _LOOK, offset), cut=offset > 0)
                for offset in _offsets(size, places)
            ]
    except OSError:
        return ()
    return tuple(loss for loss in found if loss is not None)


def sparkline(values: Sequence[float]) -> str:
    """Values as a line of little bars; their range fills the height."""
    finite = [v for v in values if v - v == 0]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    scale = (len(_TICKS) - 1) / (high - low) if high > low else 0.0
    return "".join("!" if v - v else _TICKS[round((v - low) * scale)] for v in values)


def order(rows: Sequence[Row], by: str) -> list[Row]:
    """Sorted by a column of SORTS: the newest, the lowest loss, the largest first."""
    far = float("inf")
    keys: dict[str, Any] = {
        "created": lambda row: -row.created,
        "id": lambda row: row.run.id,
        "state": lambda row: (row.state != "running", row.state),
        "loss": lambda row: far if row.loss is None else row.loss,
        "eval": lambda row: far if row.evaluation is None else row.evaluation,
        "step": lambda row: -row.step,
        "size": lambda row: -row.size,
    }
    return sorted(rows, key=lambda row: (keys[by](row), -row.created, row.run.id))


def matches(row: Row, text: str) -> bool:
    """Whether every word is in the row; one that begins with "!" must not be."""
    whole = row.text()
    for word in text.lower().split():
        if (word[1:] in whole and len(word) > 1) if word[0] == "!" else word not in whole:
            return False
    return True


def bytes_text(count: int) -> str:
    """A size in at most eight characters."""
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.3g} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _offsets(size: int, places: int) -> list[int]:
    if size <= _LOOK * 2:
        return [0] if size else []
    last = max(0, size - _LOOK)
    return [last * k // (places - 1) for k in range(places)]


def _loss_near(data: bytes, *, cut: bool) -> float | None:
    """The loss of the first whole step event in the bytes."""
    for line in data.split(b"\n")[1 if cut else 0 :]:
        if b'"step"' in line and b'"loss"' in line:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and event.get("kind") == "step":
                return _number(event.get("loss"))
    return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
