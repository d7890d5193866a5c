"""What a container of a run is given: folders, user, limits, network. Pure of any engine.

Every folder lies at the same place inside as outside, so that a plan, a run directory and a cache
mean the same to both. Standard library only.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlab import atomic, identity, paths
from ftlab.facts import Gpu
from ftlab.offline import VARIABLES, is_offline
from ftlab.schema import RunConfig
from ftlab.values import parse_bytes

RUN_LABEL, PATH_LABEL, ROLE_LABEL = "ftlab.run", "ftlab.path", "ftlab.role"
SECRET = "/run/secrets/hf_token"
# Besides what changes numerics (identity.VARIABLES), these reach into the container.
PASSED = (*VARIABLES, "HF_ENDPOINT", "TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS")
KEPT_OUT = frozenset({"CUDA_VISIBLE_DEVICES"})  # the engine counts GPUs for itself


@dataclass(frozen=True, slots=True)
class Spec:
    """The container to make."""

    command: list[str]
    read: tuple[Path, ...] = ()  # mounted read-only
    write: tuple[Path, ...] = ()
    network: str = "none"
    secret: Path | None = None
    environment: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    shm_size: str = "1GiB"
    memory: str | None = None

    def options(self, *, user: str, selinux: bool = False) -> dict[str, Any]:
        """The arguments of `client.containers.create`, besides image, name and GPUs."""
        volumes = [f"{path}:{path}:ro" for path in self.read]
        volumes += [f"{path}:{path}:rw" for path in self.write]
        volumes += [f"{self.secret}:{SECRET}:ro"] if self.secret else []
        limit = {"mem_limit": parse_bytes(self.memory)} if self.memory else {}
        return {
            "command": self.command,
            "entrypoint": ["/usr/bin/tini", "-g", "--"],
            "volumes": volumes,
            "network_mode": self.network,
            "environment": self.environment,
            "labels": self.labels,
            "shm_size": parse_bytes(self.shm_size),
            "user": user,
            "working_dir": os.getcwd(),
            "read_only": True,
            "tmpfs": {
                "/tmp": "rw,exec,nosuid,nodev,mode=1777"
            },  # what triton builds is loaded there
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges"] + (["label=disable"] if selinux else []),
            "healthcheck": {"test": ["NONE"]},
            "detach": True,
            **limit,
            **({"memswap_limit": limit["mem_limit"]} if limit else {}),
        }


def named_paths(config: RunConfig) -> tuple[Path, ...]:
    """The files and folders of this machine that a config names."""
    asked = [config.model.name, config.data.source, config.data.chat_template]
    if config.data.eval_source:
        asked += [config.data.eval_source, config.data.eval_source.rpartition(":")[0]]
    found = [Path(os.path.abspath(os.path.expanduser(name))) for name in asked if name]
    return tuple(dict.fromkeys(path for path in found if path.exists()))


def is_local(config: RunConfig) -> bool:
    """Whether model and data lie on this machine, so that no network is needed."""
    there = set(named_paths(config))
    needed = [config.model.name, config.data.source]
    local = all(Path(os.path.abspath(os.path.expanduser(name))) in there for name in needed)
    evaluation = config.data.eval_source
    return local and (evaluation is None or len(named_paths(_only_eval(config))) > 0)


def network(config: RunConfig, local: bool, *, chosen: bool = False) -> str:
    """The network mode: as asked, else none where nothing has to be fetched.

    Args:
        local: whether everything lies on this machine.
        chosen: the mode in `config` is the plan's choice, which yields where the hub is offline.
    """
    mode = config.launch.network
    if (chosen or mode == "auto") and is_offline():
        return "none"
    if mode != "auto":
        return mode
    return "none" if local else "bridge"


def caches(online: bool) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """(read-only, writable) cache folders; made where they are missing and must be written."""
    own = paths.make_cache_dir()
    hub = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface").absolute()
    if online:
        hub.mkdir(parents=True, exist_ok=True)
        return (), (own, hub)
    return ((hub,) if hub.is_dir() else ()), (own,)


def variables(image_digest: str, base: Mapping[str, str], secret: Path | None) -> dict[str, str]:
    """The environment inside: what changes numerics, where caches lie, no token."""
    wanted = {n: v for n, v in base.items() if (identity.matters(n) or n in PASSED)}
    own = paths.cache_dir().absolute()
    hub = base.get("HF_HOME") or str(Path.home() / ".cache" / "huggingface")
    return {
        **{name: value for name, value in wanted.items() if name not in KEPT_OUT},
        "FTLAB_IMAGE_DIGEST": image_digest,
        "FTLAB_CACHE": str(own),
        "HF_HOME": hub,
        "TRITON_CACHE_DIR": str(own / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(own / "inductor"),
        "XDG_CACHE_HOME": "/tmp/cache",
        "HOME": "/tmp",
        "USER": "ftlab",
        "LOGNAME": "ftlab",
        "PYTHONUNBUFFERED": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": base.get("TORCHINDUCTOR_COMPILE_THREADS", "1"),
        **({"HF_TOKEN_PATH": SECRET} if secret else {}),
    }


def token_file(name: str, base: Mapping[str, str]) -> Path | None:
    """A private file with the hub's token of the environment, or None when there is none.

    The token is never in a label, a command line, a log or what `docker inspect` shows.
    """
    token = base.get("HF_TOKEN")
    if not token:
        return None
    path = paths.make_cache_dir("secrets") / name
    path.touch(mode=0o600)
    path.chmod(0o600)
    path.write_text(token, encoding="utf-8")
    return path


def forget_token(name: str) -> None:
    """Remove what `token_file` wrote."""
    with atomic.clear_errors(paths.cache_dir()):
        (paths.cache_dir() / "secrets" / name).unlink(missing_ok=True)


def gpu_ids(devices: list[int], gpus: tuple[Gpu, ...]) -> list[str]:
    """The engine's names of planned GPUs: uuids where known, since torch may count otherwise."""
    by_index = {gpu.index: gpu for gpu in gpus}
    names = []
    for index in devices:
        uuid = by_index[index].uuid if index in by_index else ""
        names.append(f"GPU-{uuid.removeprefix('GPU-')}" if uuid else str(index))
    return names


def _only_eval(config: RunConfig) -> RunConfig:
    from dataclasses import replace

    data = replace(config.data, source="", chat_template="")
    return replace(config, model=replace(config.model, name=""), data=data)
