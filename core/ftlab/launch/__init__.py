"""Where a trainer is started: on this machine, in a container, by a cluster's queue."""

from __future__ import annotations

from ftlab.errors import ConfigError, Problem
from ftlab.run import Run


def check(where: str) -> None:
    """Refuse a place that this version cannot start a trainer in, before a run is made for it."""
    if where != "local":
        raise ConfigError(
            [Problem("launch.where", f"{where} is not supported by this version", "use local")]
        )


def start(run: Run, *, resume: bool = False) -> int:
    """Start the trainer of `run` where its plan says; its pid. See `local.start`."""
    check(run.plan().config.launch.where)
    from ftlab.launch import local

    return local.start(run, resume=resume)
