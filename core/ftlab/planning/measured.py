"""What earlier runs on this machine reached, kept in the cache, so that plans state real times.

A speed is in operations a second, as `planning.timing` counts them, so that one model's speaks for
another of about its size on the same device. Standard library only.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.facts import Machine, Speed
from ftlab.paths import cache_dir, make_cache_dir

FILE = "measured.json"
MOST = 100  # entries; the oldest go first
_WITHIN = 4.0  # times larger or smaller: a model that tells something about another


def read(path: Path | None = None) -> tuple[Speed, ...]:
    """Every speed that is known here, oldest first; none from a file that is damaged."""
    names = {field.name for field in fields(Speed)}
    try:
        rows = json.loads((path or cache_dir() / FILE).read_text("utf-8"))
        return tuple(Speed(**{k: v for k, v in row.items() if k in names}) for row in rows)
    except (OSError, ValueError, TypeError, AttributeError):
        return ()


def remember(speed: Speed) -> None:
    """Add a speed, in place of an earlier one of the same kind; a full disk only forgets it."""
    with contextlib.suppress(FtlabError, OSError):
        folder = make_cache_dir()
        others = [held for held in read(folder / FILE) if _kind(held) != _kind(speed)]
        rows = [asdict(held) for held in [*others, speed][-MOST:]]
        atomic.write_json(folder / FILE, rows)


def device_name(machine: Machine, device: str) -> str:
    """What a device such as "cuda:0" or "cpu" is called: the card's name, or the processor's."""
    if device == "cpu":
        return machine.cpu
    index = int(device.partition(":")[2] or 0)
    return next((gpu.name for gpu in machine.gpus if gpu.index == index), device)


def matching(
    speeds: Sequence[Speed], device: str, precision: str, compute_dtype: str, parameters: int
) -> list[Speed]:
    """Those that tell how fast a model will be: of the same model if there are any, else alike."""
    alike = [
        held
        for held in speeds
        if (held.device, held.precision, held.compute_dtype) == (device, precision, compute_dtype)
        and 1 / _WITHIN <= held.parameters / max(1, parameters) <= _WITHIN
    ]
    same = [held for held in alike if held.parameters == parameters]
    return same or alike


def _kind(speed: Speed) -> tuple[object, ...]:
    return speed.device, speed.precision, speed.compute_dtype, speed.parameters, speed.tokens
