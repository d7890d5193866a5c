"""Where a trainer is started: on this machine, in a container, by a cluster's queue."""

from __future__ import annotations

from ftlab import atomic
from ftlab.errors import ConfigError, FtlabError, Problem
from ftlab.run import Run

SUPPORTED = ("local", "docker")


def check(where: str) -> None:
    """Refuse a place that this version cannot start a trainer in, before a run is made for it.

    Raises:
        ConfigError: the place is not supported.
        EnvironmentUnfit: docker, and no engine can be used.
    """
    if where not in SUPPORTED:
        places = " or ".join(SUPPORTED)
        raise ConfigError(
            [Problem("launch.where", f"{where} is not supported by this version", f"use {places}")]
        )
    if where == "docker":
        from ftlab.launch import docker_engine

        docker_engine.connect().close()


def start(run: Run, *, resume: bool = False) -> int:
    """Start the trainer of `run` where its plan says; its pid. See `local.start`."""
    where = run.plan().config.launch.where
    check(where)
    if where == "docker":
        from ftlab.launch import docker

        return docker.start(run, resume=resume)
    from ftlab.launch import local

    return local.start(run, resume=resume)


def stop(run: Run, grace: float = 60.0, *, kill: bool = False, ask: bool = True) -> str:
    """Stop the trainer of `run`, wherever it is; how it ended. See `local.stop`.

    An engine's stop ends with SIGKILL, so it is used only with `kill`.
    """
    from ftlab.launch import local

    if not in_container(run):
        return local.stop(run, grace, kill=kill, ask=ask)
    state = local.stop(run, grace) if ask else run.liveness()
    if kill and state in ("running", "stalled"):
        from ftlab.launch import docker

        state = docker.stop(run, grace)
    return state


def ending(run: Run) -> str:
    """What the place knows of how a trainer ended that left no word itself; "" when nothing."""
    if not in_container(run):
        return ""
    from ftlab.launch import docker

    return docker.ending(run)


def in_container(run: Run) -> bool:
    """Whether the trainer was last started in a container."""
    try:
        return atomic.read_json(run.launch_path).get("where") == "docker"
    except FtlabError:
        return False
