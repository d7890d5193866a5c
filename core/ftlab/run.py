"""A run: one directory and at most one live process.

The directory is the only interface between trainer and viewers. Every file in it has one writer,
is appended to or replaced in one step, and is read by anything from any version.

    config.yaml plan.json status.json events.jsonl log.txt samples.jsonl ledger.bin
    data/ checkpoints/ control/ export/ manifest.json exit.json lock launch.json

Standard library only.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.lock import Lock
from ftlab.process import Identity, boot_id, monotonic

if TYPE_CHECKING:
    from ftlab.plan import Plan

STATUS_VERSION = 1
STALLED_AFTER = 60.0  # seconds without a heartbeat
UNSEEN_LOST_AFTER = 900.0  # the same for a trainer on a host whose processes cannot be seen here
FINAL = ("done", "failed", "stopped")
LIVE = ("running", "stalled")


@dataclass(frozen=True, slots=True)
class Status:
    """The content of status.json. Times are unix seconds, `monotonic` is seconds since boot."""

    state: str = "planned"  # planned, running, done, failed or stopped
    pid: int | None = None
    start_time: int | None = None
    boot_id: str = ""
    host: str = ""
    pid_namespace: str = ""
    step: int = 0
    steps: int = 0
    created: float = 0.0
    heartbeat: float = 0.0
    monotonic: float = 0.0
    updated: float = 0.0
    message: str = ""
    version: int = STATUS_VERSION

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Status:
        """Build from what any version wrote: unknown keys are ignored, missing ones default."""
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: item for name, item in value.items() if name in names})

    @property
    def process(self) -> Identity | None:
        """The trainer this status speaks of."""
        return Identity.from_dict(dataclasses.asdict(self))

    def silence(self) -> float:
        """Seconds since the last heartbeat, by the clock of this boot where that is possible."""
        if self.monotonic and self.boot_id == boot_id():
            return monotonic() - self.monotonic
        return time.time() - self.heartbeat


@dataclass(frozen=True, slots=True)
class Run:
    """One run directory. Holding a `Run` opens nothing and proves nothing about the disk."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(os.path.abspath(self.path)))

    # -- where things lie ---------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The name of the directory."""
        return self.path.name

    @property
    def config_path(self) -> Path:
        """What a person asked for, as YAML."""
        return self.path / "config.yaml"

    @property
    def plan_path(self) -> Path:
        """What will happen."""
        return self.path / "plan.json"

    @property
    def status_path(self) -> Path:
        """State, process, step and heartbeat; replaced every 2 s by the trainer."""
        return self.path / "status.json"

    @property
    def events_path(self) -> Path:
        """One JSON line per event."""
        return self.path / "events.jsonl"

    @property
    def log_path(self) -> Path:
        """stdout and stderr of the trainer."""
        return self.path / "log.txt"

    @property
    def samples_path(self) -> Path:
        """One JSON line per generated sample."""
        return self.path / "samples.jsonl"

    @property
    def ledger_path(self) -> Path:
        """Bits of every step."""
        return self.path / "ledger.bin"

    @property
    def data_dir(self) -> Path:
        """The batch index."""
        return self.path / "data"

    @property
    def checkpoints_dir(self) -> Path:
        """Complete checkpoints, and at most one that is being written."""
        return self.path / "checkpoints"

    @property
    def control_dir(self) -> Path:
        """Requests to the trainer."""
        return self.path / "control"

    @property
    def export_dir(self) -> Path:
        """What the run made: export/adapter, and export/merged when it was asked for."""
        return self.path / "export"

    @property
    def manifest_path(self) -> Path:
        """What did happen."""
        return self.path / "manifest.json"

    @property
    def exit_path(self) -> Path:
        """Exit code, state and reason of the last finished attempt."""
        return self.path / "exit.json"

    @property
    def lock_path(self) -> Path:
        """Held by the one live trainer."""
        return self.path / "lock"

    @property
    def launch_path(self) -> Path:
        """The process that was started last, written by whatever started it."""
        return self.path / "launch.json"

    # -- making and finding -------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        plan: Plan,
        root: str | os.PathLike[str] = "runs",
        run_id: str | None = None,
        *,
        config_text: str | None = None,
    ) -> Run:
        """Make the directory of a planned run; it appears complete or not at all.

        Args:
            config_text: content of config.yaml; by default the plan's config.
            run_id: the exact name; by default one made of method, model and time.
        Raises:
            ConfigError: `run_id` is taken or no name for a folder.
            EnvironmentUnfit: `root` cannot be written or its disk is full.
        """
        from ftlab import registry

        return cls(registry.create(plan, root, run_id, config_text))

    @classmethod
    def find(cls, id_or_path: str | os.PathLike[str], root: str | os.PathLike[str] = "runs") -> Run:
        """The run meant by a path, an id, the unique beginning or part of an id, or "last".

        Raises:
            ConfigError: no run or several fit; the message names the nearest.
        """
        from ftlab import registry

        return cls(registry.find(id_or_path, root))

    @classmethod
    def all(cls, root: str | os.PathLike[str] = "runs") -> list[Run]:
        """Every run under `root`, oldest first. A missing root has none."""
        from ftlab import registry

        found = [cls(Path(root) / name) for name in registry.names(root)]
        return sorted(found, key=lambda run: (run.status().created, run.id))

    # -- reading ------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """The plan of this run."""
        from ftlab import plan

        return plan.from_json(atomic.read_json(self.plan_path))

    def status(self) -> Status:
        """status.json; a missing or damaged one reads as planned."""
        try:
            return Status.from_dict(atomic.read_json(self.status_path))
        except FtlabError:
            return Status()

    def exit(self) -> dict[str, Any] | None:
        """exit.json of the last finished attempt, or None."""
        return _optional(self.exit_path)

    def launched(self) -> Identity | None:
        """The trainer process that was started last, whether or not it came to life."""
        return Identity.from_dict(_optional(self.launch_path) or {})

    def liveness(self) -> str:
        """planned, running, stalled (silent for 60 s), lost (its process is gone), or how it ended.

        A trainer that was started but has not spoken yet (imports take seconds) is running.
        """
        status = self.status()
        state = self._judge(status)
        if state == "lost" and (again := self.status()) != status:
            state = self._judge(again)  # it ended between the two looks
        return state

    def process(self) -> Identity | None:
        """The process that trains, or trained last: as it says itself, or as it was started."""
        status = self.status()
        return self.launched() if status.state == "planned" else status.process

    def _judge(self, status: Status) -> str:
        if status.state in FINAL:
            return status.state
        if status.state == "planned":
            return _of_launch(self.launched())
        process = status.process
        seen = process.alive() if process else None
        if seen is None and (launched := self.launched()):
            seen = launched.alive()  # in a container: seen from outside as it was started
        if seen is False:
            return "lost"
        silence = status.silence()
        if silence < STALLED_AFTER:
            return "running"
        return "lost" if seen is None and silence > UNSEEN_LOST_AFTER else "stalled"

    def lock(self) -> Lock:
        """Become the one trainer of this run; use as a context manager.

        Raises:
            RunBusy: another live process is.
        """
        return Lock.acquire(self.lock_path)

    def write_status(self, status: Status, *, durable: bool = True) -> None:
        """Replace status.json. Only the holder of the lock may."""
        atomic.write_json(self.status_path, dataclasses.asdict(status), durable=durable)


def _of_launch(launched: Identity | None) -> str:
    if launched is None:
        return "planned"
    return "lost" if launched.alive() is False else "running"


def _optional(path: Path) -> dict[str, Any] | None:
    try:
        return atomic.read_json(path)
    except FtlabError:
        return None
