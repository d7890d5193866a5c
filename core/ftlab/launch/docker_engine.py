"""Find a Docker engine (or podman's socket), and put its faults into words."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftlab.errors import EnvironmentUnfit, FtlabError, TryLater

TOOLKIT = "could not select device driver"  # what dockerd says without NVIDIA's container toolkit
DEVICE_FILES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")


def connect() -> Any:
    """A client of the engine that `docker` itself would use, proven by one request.

    Raises:
        EnvironmentUnfit: there is none, it may not be used, or it is on another machine.
    """
    address = find()
    try:
        import docker
    except ImportError as error:
        raise EnvironmentUnfit("launch.where: docker needs the package `docker`") from error
    socket = address.partition("://")[2]
    if not os.path.exists(socket):
        raise EnvironmentUnfit(f"no engine answers at {address}: there is no such socket; start it")
    if not os.access(socket, os.R_OK | os.W_OK):
        raise _error(PermissionError("permission denied"), f"using the engine at {address}")
    with words(f"using the engine at {address}"):
        return docker.DockerClient(base_url=address, version="auto", timeout=60)  # asks its version


@contextlib.contextmanager
def session() -> Iterator[Any]:
    """A client as `connect` gives it, closed at the end of the block."""
    client = connect()
    try:
        yield client
    finally:
        client.close()


def find() -> str:
    """The address of the engine: DOCKER_HOST, the chosen context, or the first usual socket."""
    address = os.environ.get("DOCKER_HOST") or _context()
    if address:
        if not address.startswith(("unix://", "http+unix://")):
            raise EnvironmentUnfit(
                f"the engine at {address} is on another machine, where this one's folders are not; "
                "use an engine of this machine (DOCKER_HOST=unix://...)"
            )
        return address
    for socket in _sockets():
        if os.path.exists(socket):
            return f"unix://{socket}"
    raise EnvironmentUnfit(
        "no Docker engine was found (looked for " + ", ".join(_sockets()) + "); install and start "
        "Docker or podman, or name its socket: DOCKER_HOST=unix:///path"
    )


def is_podman(client: Any) -> bool:
    """Whether podman answers in Docker's language."""
    parts = client.version().get("Components") or []
    return any("podman" in str(part.get("Name", "")).lower() for part in parts)


def is_rootless(client: Any) -> bool:
    """Whether root inside a container is this user outside."""
    return any("rootless" in str(o) for o in client.info().get("SecurityOptions") or [])


def has_gpu() -> bool:
    """Whether this machine shows an NVIDIA GPU, also under WSL."""
    return any(os.path.exists(file) for file in DEVICE_FILES)


@contextlib.contextmanager
def words(doing: str) -> Iterator[None]:
    """Turn any fault of the engine in the block into one clear error."""
    import docker

    try:
        yield
    except FtlabError:
        raise
    except (docker.errors.DockerException, OSError) as error:  # a broken connection is an OSError
        raise _error(error, doing) from error


def _error(error: Exception, doing: str) -> FtlabError:
    text = str(getattr(error, "explanation", None) or error)
    low = text.lower()
    if TOOLKIT in low or "nvidia-container" in low:
        return EnvironmentUnfit(
            f"{doing}: the engine cannot give a GPU to a container ({text}); install NVIDIA's "
            "container toolkit, run `nvidia-ctk runtime configure --runtime=docker` and restart "
            "Docker, or train on the CPU with launch.devices: []"
        )
    if "permission denied" in low:
        return EnvironmentUnfit(
            f"{doing}: no permission on its socket; add yourself to its group (`sudo usermod -aG "
            "docker $USER`, then log in again), or use a rootless engine"
        )
    if "no space left" in low:
        return EnvironmentUnfit(
            f"{doing}: the engine's disk is full; `docker system df` shows what fills it, "
            "`ftrun containers --clean` and `docker image prune` free some"
        )
    if "connection refused" in low or "no such file" in low or "filenotfound" in low:
        return EnvironmentUnfit(f"{doing}: no engine answers there; is it started? ({text})")
    if "timed out" in low or "connection aborted" in low:
        return TryLater(f"{doing}: the engine did not answer ({text}); try again")
    return FtlabError(f"{doing}: {text}")


def _context() -> str:
    """The address of the context that `docker context use` chose; "" for the default one."""
    from docker.context import ContextAPI
    from docker.errors import DockerException

    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError, KeyError):
        return ""
    return "" if context is None or context.name == "default" else str(context.Host or "")


def _sockets() -> list[str]:
    mine = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [
        "/var/run/docker.sock",
        str(Path(mine) / "docker.sock"),
        str(Path(mine) / "podman" / "podman.sock"),
        "/run/podman/podman.sock",
    ]
