"""Whether a run can be gone on with, what is restored then, and what has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ftlab import launch, manifest, summary, versions
from ftlab.errors import FtlabError
from ftlab.run import LIVE, Run


@dataclass(frozen=True, slots=True)
class Resume:
    """The answer. `detail` says what is restored, or why not."""

    possible: bool
    detail: str


def consider(run: Run) -> Resume:
    """Look at state, checkpoints and versions; nothing is read that takes long."""
    state = run.liveness()
    if state in LIVE:
        return Resume(False, f"run {run.id} is {state}; 3 shows it")
    if state == "done":
        return Resume(False, f"run {run.id} is done: all {run.status().steps} steps were made")
    try:
        launch.check(run.plan().config.launch.where)
    except (FtlabError, TypeError, ValueError, KeyError) as error:
        return Resume(False, f"its plan cannot be carried out here: {error}")
    lines = [_restored(run, state)]
    if changed := changes(run):
        lines.append("Changed since it began (may change bits): " + "; ".join(changed))
    return Resume(True, "\n".join(lines))


def start(run: Run) -> str:
    """Start the trainer; "" or what went wrong."""
    try:
        launch.start(run, resume=run.liveness() != "planned")
    except FtlabError as error:
        return str(error)
    return ""


def changes(run: Run) -> list[str]:
    """Versions that are not those the run began with."""
    identity = (manifest.read(run) or {}).get("identity")
    if not isinstance(identity, Mapping):
        return []
    found = []
    for name, now in versions.installed().items():
        field = identity.get(f"version.{name}")
        before = field.get("value") if isinstance(field, Mapping) else None
        if before is not None and before != now:
            found.append(f"{name} {before} → {now or 'not installed'}")
    return found


def _restored(run: Run, state: str) -> str:
    checkpoint, status = summary.newest_checkpoint(run), run.status()
    if state == "planned":
        return f"It was never started: begins at step 0 of {status.steps}."
    if checkpoint is None:
        return f"No checkpoint is complete: it begins anew at step 0 of {status.steps}."
    step = summary.checkpoint_step(checkpoint)
    again = max(0, status.step - step)
    repeat = f" The {again} steps after it are made again, with the same bits." if again else ""
    return (
        f"From {checkpoint.name}: trained weights, optimizer, loss scale and counters of step "
        f"{step} of {status.steps}; the order of the data is fixed, so it goes on where it was."
        f"{repeat}"
    )
