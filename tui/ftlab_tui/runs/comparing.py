"""What is different between runs: settings, versions, machine; each with what it could change.

The fields are those of the manifests' identities (class `bits`, `numerics` or `none`), and of the
plans for a run that has no manifest yet. Only fields that differ are given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ftlab import atomic, manifest
from ftlab.errors import FtlabError
from ftlab.run import Run

_RANK = {"numerics": 0, "bits": 1, "none": 2}
MEANING = {
    "numerics": "may change results",
    "bits": "may change bits, within rounding",
    "none": "changes nothing",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One field and its value in each run; None where a run does not tell."""

    name: str
    kind: str  # numerics, bits or none
    values: tuple[Any, ...]


def differences(runs: Sequence[Run]) -> list[Difference]:
    """Every field that is not the same in all runs, what may change results first."""
    known = [fields(run) for run in runs]
    names = sorted({name for values in known for name in values})
    found = []
    for name in names:
        values = tuple(values[name][0] if name in values else None for values in known)
        if any(value != values[0] for value in values):
            kinds = [values[name][1] for values in known if name in values]
            found.append(Difference(name, min(kinds, key=lambda k: _RANK.get(k, 0)), values))
    return sorted(found, key=lambda item: (_RANK.get(item.kind, 0), item.name))


def fields(run: Run) -> dict[str, tuple[Any, str]]:
    """Name -> (value, class) of what a run tells about itself."""
    identity = (manifest.read(run) or {}).get("identity")
    if isinstance(identity, Mapping) and identity:
        return {
            str(name): (field.get("value"), str(field.get("class") or "none"))
            for name, field in identity.items()
            if isinstance(field, Mapping)
        }
    try:
        config = atomic.read_json(run.plan_path).get("config")
    except FtlabError:
        return {}
    sections = config if isinstance(config, Mapping) else {}
    return {
        f"config.{section}.{name}": (value, "numerics")
        for section, values in sections.items()
        if isinstance(values, Mapping)
        for name, value in values.items()
    }


def short(value: Any, length: int = 28) -> str:
    """A value for a cell of a table."""
    if value is None:
        return "-"
    text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= length else f"{text[: length - 1]}…"
