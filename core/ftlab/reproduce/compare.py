"""What differs between two runs: fields of their manifests, steps of their ledgers, outputs.

Nothing here judges; `verdict` does. Standard library only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab import ledger, manifest
from ftlab.errors import ConfigError, FtlabError
from ftlab.identity import BITS, NONE, NUMERICS
from ftlab.run import Run

STRENGTH = {NONE: 0, BITS: 1, NUMERICS: 2}
UNRECORDED = "unrecorded"  # class of a field that only one of two versions of ftlab writes down
# Fields of these groups are written down only where they are set: there, absent means unset.
_OPTIONAL = ("environment.", "kernels.compiled.")
# Names of places inside the files of a result. They say where a model lay, not what was trained.
_PLACES = frozenset({"base_model_name_or_path", "_name_or_path", "name_or_path"})


@dataclass(frozen=True, slots=True)
class FieldDifference:
    """One field of two identities that differs."""

    name: str
    kind: str  # bits, numerics, none or unrecorded
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class OutputDifference:
    """One file of two results that differs; None where a run has none of that name."""

    name: str
    a: str | None  # sha256
    b: str | None


@dataclass(frozen=True, slots=True)
class Curve:
    """How far two loss curves are apart over the steps that both have."""

    steps: int
    largest: float  # absolute difference; infinite where only one is finite
    at: int  # step of the largest difference, 0 when every bit is equal
    rows: tuple[tuple[int, float, float], ...]  # (step, loss of a, loss of b)


def sealed(run: Run) -> dict[str, Any]:
    """The manifest of a run that is done.

    Raises:
        ConfigError: the run has not come to its end, so there is nothing to compare.
    """
    made = manifest.read(run)
    state = run.liveness()
    if made is None or state != "done" or not isinstance(made.get("identity"), dict):
        what = f"is {state}" if state != "done" else "has no manifest that can be read"
        raise ConfigError(f"run {run.id} {what}; only runs that are done can be compared")
    return made


def fields(a: Mapping[str, Any], b: Mapping[str, Any]) -> tuple[FieldDifference, ...]:
    """The fields that differ between two identities, strongest class first."""
    found = []
    for name in {**a, **b}:
        one, other = _entry(a, name), _entry(b, name)
        if (name in a and name in b) or name.startswith(_OPTIONAL):
            if one.get("value") != other.get("value"):
                classes = (e.get("class", NONE) for e in (one, other) if e)
                kind = max(classes, key=lambda k: STRENGTH.get(k, 0))
                found.append(FieldDifference(name, kind, one.get("value"), other.get("value")))
        else:
            found.append(FieldDifference(name, UNRECORDED, one.get("value"), other.get("value")))
    return tuple(sorted(found, key=lambda d: -STRENGTH.get(d.kind, -1)))


def outputs(a: Run, b: Run) -> tuple[OutputDifference, ...]:
    """The files of the results that differ, judged by what the manifests sealed.

    A JSON file that names the place of the base model is compared without that name, and only while
    both files still are what was sealed.
    """
    left, right = _sealed_outputs(a), _sealed_outputs(b)
    return tuple(
        OutputDifference(name, left.get(name), right.get(name))
        for name in sorted(left.keys() | right.keys())
        if left.get(name) != right.get(name) and not _same_but_place(a, b, name, left, right)
    )


def curve(a: Path, b: Path) -> Curve:
    """The two loss curves of two ledgers, laid over each other."""
    other = {record.step: record.loss for record in ledger.read(b)}
    rows = tuple((r.step, r.loss, other[r.step]) for r in ledger.read(a) if r.step in other)
    largest, at = 0.0, 0
    for step, one, two in rows:
        apart = _apart(one, two)
        if apart > largest:
            largest, at = apart, step
    return Curve(len(rows), largest, at, rows)


def _entry(fields: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    entry = fields.get(name)
    return entry if isinstance(entry, Mapping) else {}


def _apart(one: float, two: float) -> float:
    if one == two or (math.isnan(one) and math.isnan(two)):
        return 0.0
    apart = abs(one - two)
    return math.inf if math.isnan(apart) else apart


def _sealed_outputs(run: Run) -> dict[str, str]:
    listed = sealed(run).get("outputs")
    if not isinstance(listed, Mapping):
        return {}
    return {str(name): str(dict(entry).get("sha256")) for name, entry in listed.items()}


def _same_but_place(
    a: Run, b: Run, name: str, left: Mapping[str, str], right: Mapping[str, str]
) -> bool:
    if not name.endswith(".json") or name not in left or name not in right:
        return False
    one, other = _without_places(a, name, left[name]), _without_places(b, name, right[name])
    return one is not None and one == other


def _without_places(run: Run, name: str, sha256: str) -> dict[str, Any] | None:
    path = run.path / name
    try:
        if manifest.file_sha256(path) != sha256:
            return None
        value = json.loads(path.read_bytes())
    except (FtlabError, OSError, ValueError):
        return None
    if not isinstance(value, dict):
        return None
    return {key: item for key, item in value.items() if key not in _PLACES}
