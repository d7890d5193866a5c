"""A run in one glance: what lists and `ftrun show` tell, tolerant of any version and any damage."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ftlab import atomic, events
from ftlab.errors import FtlabError
from ftlab.run import Run

_CHECKPOINT = re.compile(r"step-(\d+)\Z")


def of(run: Run) -> dict[str, Any]:
    """Identity, state, progress and last figures of a run, as plain JSON values.

    Keys: id, path, state, message, method, model, data, step, steps, loss, eval, created, age
    (seconds since creation), heartbeat, checkpoint, exit.
    """
    status, config = run.status(), _config(run)
    step = events.last(run.events_path) or {}
    number = max(status.step, int(step.get("step") or 0))
    checkpoint = newest_checkpoint(run)
    return {
        "id": run.id,
        "path": str(run.path),
        "state": run.liveness(),
        "message": status.message,
        "method": _pick(config, "method", "kind"),
        "model": _pick(config, "model", "name"),
        "data": _pick(config, "data", "source"),
        "step": number,
        "steps": status.steps,
        "loss": step.get("loss"),
        "tok_s": step.get("tok_s"),
        "eval": _figures(events.last(run.events_path, "eval")),
        "created": status.created,
        "age": max(0.0, time.time() - status.created) if status.created else None,
        "heartbeat": status.heartbeat or None,
        "checkpoint": str(checkpoint) if checkpoint else None,
        "exit": run.exit(),
    }


def newest_checkpoint(run: Run) -> Path | None:
    """The newest checkpoint that carries its marker of completeness; what it holds is not read."""
    try:
        found = [p for p in run.checkpoints_dir.iterdir() if _CHECKPOINT.search(p.name)]
    except OSError:
        return None
    complete = [path for path in found if (path / "COMPLETE").is_file()]
    return max(complete, key=checkpoint_step, default=None)


def checkpoint_step(path: Path) -> int:
    """The step in a checkpoint's name."""
    match = _CHECKPOINT.search(path.name)
    return int(match[1]) if match else 0


def log_tail(run: Run, lines: int = 15) -> list[str]:
    """The last lines of log.txt; none when there is none."""
    try:
        with run.log_path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - (1 << 16)))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return []
    return text.replace("\r", "\n").splitlines()[-lines:]


def _config(run: Run) -> Mapping[str, Any]:
    try:
        config = atomic.read_json(run.plan_path).get("config")
    except FtlabError:
        return {}
    return config if isinstance(config, dict) else {}


def _pick(config: Mapping[str, Any], section: str, name: str) -> str | None:
    values = config.get(section)
    value = values.get(name) if isinstance(values, dict) else None
    return value if isinstance(value, str) else None


def _figures(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {name: value for name, value in event.items() if name not in ("v", "t", "kind")}
