"""manifest.json: what did happen - identity, attempts, cost, outputs - and exit.json, how it ended.

`begin` is called by the trainer when an attempt starts, `seal` when it ends; both replace the file
in one step. An attempt that was killed has no `seal`: the next one finds it in the events.
Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab import atomic, identity, ledger
from ftlab.errors import FtlabError
from ftlab.run import Run

if TYPE_CHECKING:
    from ftlab.plan import Plan

MANIFEST_VERSION = 1
_EXIT_CODES = {"done": 0, "failed": 1, "stopped": 130}
_TAKEN = {"state", "reason", "code", "step", "outputs", "energy_joules", "kernels", "machine"}


def begin(run: Run, measured: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Write the identity of an attempt that starts; what changed since an earlier one is kept.

    Args:
        measured: see `identity.collect`.
    Returns:
        the manifest that was written, its state "running".
    """
    manifest = _identified(run, run.plan(), measured or {})
    atomic.write_json(run.manifest_path, {**manifest, "state": "running"})
    return manifest


def seal(run: Run, result: Mapping[str, Any]) -> dict[str, Any]:
    """Write manifest.json and exit.json of an attempt that ends; the manifest.

    Args:
        result: `state` (done, failed, stopped) and, where known, `reason`, `code`, `step`,
            `outputs` (paths besides export/, hashed too), `energy_joules` of this attempt,
            `kernels`, `machine` (see `identity.collect`); anything else is kept under "result".
    Raises:
        FtlabError: the run cannot be read or written.
    """
    state = str(result["state"])
    end = {
        "code": int(result.get("code", _EXIT_CODES.get(state, 1))),
        "state": state,
        "reason": str(result.get("reason", "")),
        "step": int(result.get("step", 0)),
    }
    try:
        manifest = _sealed(run, result, end)
        atomic.write_json(run.manifest_path, manifest)
    finally:  # how it ended is said even where the rest cannot be
        atomic.write_json(run.exit_path, {"version": MANIFEST_VERSION, **end})
    return manifest


def reserve(run: Run) -> None:
    """Keep room on the disk for the last words of an attempt, should it fill up meanwhile."""
    for path, size in _rooms(run).items():
        atomic.reserve(path, size)


def release(run: Run) -> None:
    """Give the room back."""
    for path in _rooms(run):
        atomic.release(path)


def _rooms(run: Run) -> dict[Path, int]:
    return {run.exit_path: 8192, run.status_path: 8192, run.manifest_path: 131072}


def _sealed(run: Run, result: Mapping[str, Any], end: dict[str, Any]) -> dict[str, Any]:
    plan, before = run.plan(), read(run) or {}
    attempts = _attempts(run)
    energy = _energy(before, result, len(attempts))
    wall = sum(attempt["seconds"] for attempt in attempts)
    return {
        **_identified(run, plan, result),
        **end,
        "sealed": time.time(),
        "attempts": attempts,
        "resumes": max(0, len(attempts) - 1),
        "wall_seconds": wall,
        "gpu_hours": wall / 3600 * _gpus(plan),
        "energy": energy,
        "energy_joules": sum(energy.values()) if len(energy) == len(attempts) else None,
        "ledger": _ledger(run),
        "outputs": _outputs(run, result.get("outputs") or ()),
        "result": {key: value for key, value in result.items() if key not in _TAKEN},
    }


def read(run: Run) -> dict[str, Any] | None:
    """The manifest, of any version; None when there is none that can be read."""
    try:
        return atomic.read_json(run.manifest_path)
    except FtlabError:
        return None


def spent(run: Run) -> tuple[float, float]:
    """Wall seconds and GPU-hours of every attempt of a run, also of one that was never sealed."""
    seconds = sum(attempt["seconds"] for attempt in _attempts(run))
    try:
        return seconds, seconds / 3600 * _gpus(run.plan())
    except (FtlabError, TypeError, KeyError, ValueError):  # a plan that cannot be read
        return seconds, 0.0


def _identified(run: Run, plan: Plan, measured: Mapping[str, Any]) -> dict[str, Any]:
    """The head of the manifest: identity now, and every change since the first attempt."""
    before = read(run) or {}
    now = identity.collect(run, plan, measured)
    earlier = before.get("identity")
    changed = identity.changes(earlier, now) if isinstance(earlier, dict) else {}
    filled = {n: c for n, c in changed.items() if c["before"] is not None}  # not merely learnt now
    history = list(before.get("changes") or [])
    if filled:
        history.append({"t": time.time(), "fields": filled})
    return {
        "version": MANIFEST_VERSION,
        "run": run.id,
        "world_size": plan.world_size,
        "created": run.status().created,
        "identity": now,
        "changes": history,
        **({"energy": before["energy"]} if isinstance(before.get("energy"), dict) else {}),
    }


def _attempts(run: Run) -> list[dict[str, Any]]:
    """Every attempt as its events tell it: start, last sign of life, steps."""
    found: list[dict[str, Any]] = []
    try:
        with run.events_path.open("rb") as file:
            for line in file:
                _note(found, line)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise atomic.storage_error(error, run.events_path) from error
    for attempt in found:
        attempt["seconds"] = round(attempt["ended"] - attempt["started"], 3)
    return found


def _note(attempts: list[dict[str, Any]], line: bytes) -> None:
    try:
        event = json.loads(line)
        kind, moment = event["kind"], float(event["t"])
    except (ValueError, TypeError, KeyError):
        return
    if kind == "started":
        fresh = {"started": moment, "resumed_from": event.get("resumed_from"), "state": "lost"}
        attempts.append({**fresh, "step": event.get("step", 0)})
    if attempts:
        attempts[-1]["ended"] = moment
        if kind in ("step", "finished"):
            attempts[-1]["step"] = event.get("step", attempts[-1]["step"])
        if kind == "finished":
            attempts[-1]["state"] = event.get("state", "lost")


def _energy(
    before: Mapping[str, Any], result: Mapping[str, Any], attempts: int
) -> dict[str, float]:
    """Joules per attempt ("1" is the first), where they were measured."""
    known = {str(k): float(v) for k, v in dict(before.get("energy") or {}).items()}
    if result.get("energy_joules") is not None:
        known[str(max(1, attempts))] = float(result["energy_joules"])
    return known


def _gpus(plan: Plan) -> int:
    devices = plan.config.launch.devices
    return len(devices) if isinstance(devices, list) else 0


def _ledger(run: Run) -> dict[str, Any] | None:
    try:
        return {
            "sha256": ledger.digest(run.ledger_path),
            "records": len(ledger.read(run.ledger_path)),
        }
    except FtlabError:
        return None


def _outputs(run: Run, more: Iterable[str | os.PathLike[str]]) -> dict[str, dict[str, Any]]:
    """Every file under export/ and of `more`: path relative to the run -> bytes and sha256."""
    wanted = [run.export_dir, *(run.path / path for path in more)]
    files = {f for path in wanted for f in ([path] if path.is_file() else path.rglob("*"))}
    found = {}
    for path in sorted(file for file in files if file.is_file()):
        name = path.relative_to(run.path) if path.is_relative_to(run.path) else path
        found[name.as_posix()] = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    return found


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces. Raises FtlabError when it cannot be read."""
    with atomic.clear_errors(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
