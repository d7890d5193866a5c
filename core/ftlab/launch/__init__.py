"""Where a trainer is started: on this machine, in a container, by a cluster's queue."""

from __future__ import annotations

from ftlab.errors import ConfigError
from ftlab.run import Run


def start(run: Run, *, resume: bool = False) -> int:
    """Start the trainer of `run` where its plan says; its pid. See `local.start`."""
    where = run.plan().config.launch.where
    if where != "local":
        raise ConfigError(f"launch.where: {where} is not supported by this version; use local")
    from ftlab.launch import local

    return local.start(run, resume=resume)
