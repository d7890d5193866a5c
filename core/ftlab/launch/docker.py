"""Start and stop a trainer in a container: detached, writing to the run directory, found again.

The trainer writes its log into the run directory itself, so nothing has to stay attached. The
process that the engine starts is named in launch.json as this machine sees it, so that viewers know
without the engine whether it lives.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab import atomic
from ftlab.errors import EnvironmentUnfit, FtlabError
from ftlab.launch import docker_engine as engines
from ftlab.launch import docker_image as images
from ftlab.launch import docker_spec as specs
from ftlab.launch import local
from ftlab.launch.docker_spec import Spec
from ftlab.process import Identity, start_time
from ftlab.run import FINAL, LIVE, Run
from ftlab.schema import RunConfig

NOTED = 5.0  # seconds in which an engine notes that a process has ended
_TO_LOG = 'exec "$@" >>"$0" 2>&1'


@dataclass(frozen=True, slots=True)
class Orphan:
    """A container of ours that nobody needs any more."""

    id: str
    run: str
    path: str
    state: str  # as the engine says
    why: str


def start(run: Run, *, resume: bool = False) -> int:
    """Start the trainer of a planned run, or go on with one; its pid on this machine (0: unseen).

    Raises:
        RunBusy, ConfigError: as `local.start`.
        EnvironmentUnfit: no engine, image, GPU or permission; the message says what to do.
    """
    with engines.session() as client:
        image = images.ensure(client, images.name_of(run.plan().config.launch.image))
        with run.lock():
            local.check_startable(run, resume)
            local.clear_traces(run, resume)
            discard(client, run)
            container = _create(client, image, run, resume)
            with atomic.clear_errors(run.log_path), run.log_path.open("ab") as log:
                local.headline(log, [f"container {container.short_id} of {image.id}"])
        with engines.words(f"starting the container of run {run.id}"):
            container.start()
            container.reload()
        return _record(run, container, images.digest(image))


def run_module(config: RunConfig, module: str, arguments: Sequence[str], folder: Path) -> int:
    """Run `python -m module arguments` in a container to its end; its exit code.

    Args:
        folder: where request and answer lie; mounted writable.
    """
    with engines.session() as client:
        image = images.ensure(client, images.name_of(config.launch.image))
        spec = _module_spec(
            config, images.digest(image), ["python", "-m", module, *arguments], folder
        )
        devices = config.launch.devices
        ids = [str(i) for i in devices] if isinstance(devices, list) else None
        try:
            return _follow(client, image, spec, ids)
        finally:
            if spec.secret:
                specs.forget_token(folder.name)


def stop(run: Run, grace: float = 60.0) -> str:
    """Let the engine end the container: SIGTERM, after `grace` seconds SIGKILL; how it ended."""
    with _container(run) as container:
        if container is not None and run.liveness() in LIVE:
            with engines.words(f"stopping the container of run {run.id}"):
                container.stop(timeout=int(grace))
    return local.wait(run, 5.0)


def ending(run: Run) -> str:
    """How the container of a run ended, in words; "" while it lives or when nobody knows.

    What ended well is removed; what did not stays until the run is resumed or cleaned.
    """
    try:
        with _container(run) as container:
            return "" if container is None else _ending(run, _settled(run, container))
    except FtlabError as error:
        return f"its container cannot be asked: {error}"


def orphans(client: Any) -> list[Orphan]:
    """Containers of ours that ended, or whose run directory is gone."""
    with engines.words("listing containers"):
        found = client.containers.list(all=True, filters={"label": specs.RUN_LABEL})
    made = []
    for container in found:
        labels, state = container.labels, str(container.status)
        path = labels.get(specs.PATH_LABEL, "")
        if path and not Path(path).is_dir():
            why = "its run directory is gone"
        elif state in ("exited", "dead", "created"):
            why = f"it is {state}"
        else:
            continue
        made.append(Orphan(str(container.id), labels.get(specs.RUN_LABEL, ""), path, state, why))
    return made


def clean(client: Any, found: Sequence[Orphan]) -> None:
    """Remove orphans, those that still run as well."""
    for orphan in found:
        with engines.words(f"removing the container {orphan.id[:12]}"):
            client.containers.get(orphan.id).remove(force=True, v=True)
        if orphan.run:
            specs.forget_token(orphan.run)


def discard(client: Any, run: Run) -> None:
    """Remove an ended container of an earlier attempt; its name is needed again."""
    import docker

    with engines.words(f"looking for an earlier container of run {run.id}"):
        try:
            container = client.containers.get(_name(run))
        except docker.errors.NotFound:
            return
    if container.attrs["State"].get("Running"):
        raise EnvironmentUnfit(
            f"the container {container.short_id} of run {run.id} still runs; stop it with "
            f"`ftrun stop --now {run.id}`"
        )
    _remove(container, run.id)


def _settled(run: Run, container: Any) -> Any:
    """The container once the engine knows what the run shows: a busy one notes an end late."""
    until = time.monotonic() + NOTED
    while container.attrs["State"].get("Running") and run.liveness() not in LIVE:
        if time.monotonic() > until:
            break
        time.sleep(0.05)
        with engines.words(f"asking for the container of run {run.id}"):
            container.reload()
    return container


def _ending(run: Run, container: Any) -> str:
    state = container.attrs["State"]
    if state.get("Running"):
        return ""
    if run.status().state in FINAL:
        _remove(container, run.id)
        return ""
    code = state.get("ExitCode")
    if state.get("OOMKilled"):
        return (
            f"its container was killed for lack of memory (exit code {code}); raise launch.memory "
            "or lower train.micro_batch_size"
        )
    said = f": {state['Error']}" if state.get("Error") else ""
    return f"its container ended with exit code {code}{said}"


def _module_spec(config: RunConfig, digest: str, command: list[str], folder: Path) -> Spec:
    net = specs.network(config, specs.is_local(config))
    online = net != "none"
    read, write = specs.caches(online)
    secret = specs.token_file(folder.name, os.environ) if online else None
    return Spec(
        command,
        (*specs.named_paths(config), *read),
        (folder, *write),
        net,
        secret,
        specs.variables(digest, os.environ, secret),
        {specs.ROLE_LABEL: "probe", specs.RUN_LABEL: ""},
        config.launch.shm_size,
        config.launch.memory,
    )


def _create(client: Any, image: Any, run: Run, resume: bool) -> Any:
    plan = run.plan()
    config, model = plan.config, plan.facts.model
    chosen = "launch.network" in plan.decisions
    net = specs.network(config, Path(model.path).is_dir(), chosen=chosen)
    online = net != "none"
    read, write = specs.caches(online)
    secret = specs.token_file(run.id, os.environ) if online else None
    store = Path(plan.facts.data.store)
    trainer = [
        "python",
        "-m",
        "ftlab.train",
        os.fspath(run.path),
        *(["--resume"] if resume else []),
    ]
    inside = [path for path in (store,) if path.is_dir() and not _under(path, write)]
    devices = config.launch.devices if isinstance(config.launch.devices, list) else []
    environment = specs.variables(images.digest(image), os.environ, secret)
    if not devices:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    spec = Spec(
        ["/bin/sh", "-c", _TO_LOG, os.fspath(run.log_path), *trainer],
        (*specs.named_paths(config), *inside, *read),
        (run.path, *write),
        net,
        secret,
        environment,
        {specs.RUN_LABEL: run.id, specs.PATH_LABEL: str(run.path), specs.ROLE_LABEL: "trainer"},
        config.launch.shm_size,
        config.launch.memory,
    )
    ids = specs.gpu_ids(devices, plan.facts.machine.gpus)
    return _make(client, image, spec, _name(run), ids)


def _make(client: Any, image: Any, spec: Spec, name: str | None, gpus: list[str] | None) -> Any:
    """Create a container. `gpus`: ids, [] for none, None for all."""
    rootless = engines.is_rootless(client)
    user = "0:0" if rootless else f"{os.getuid()}:{os.getgid()}"
    selinux = any("selinux" in str(o) for o in client.info().get("SecurityOptions") or [])
    options = spec.options(user=user, selinux=selinux)
    if gpus is None or gpus:
        options["device_requests"] = _gpu_request(client, gpus)
    with engines.words("creating a container"):
        return client.containers.create(image.id, name=name, **options)


def _gpu_request(client: Any, ids: list[str] | None) -> list[Any]:
    """How this engine is asked for GPUs: through the toolkit's runtime, or by CDI names."""
    from docker.types import DeviceRequest

    if engines.is_podman(client):
        if ids is None and not engines.has_gpu():
            return []
        raise EnvironmentUnfit(
            "podman's socket takes a GPU request and ignores it; use Docker, or start the trainer "
            "yourself: podman run --device nvidia.com/gpu=all ..., or train on the CPU with "
            "launch.devices: []"
        )
    info = client.info()
    toolkit = "nvidia" in (info.get("Runtimes") or {})
    cdi = any(Path(folder, "nvidia.yaml").exists() for folder in info.get("CDISpecDirs") or [])
    if cdi and not toolkit:
        names = [f"nvidia.com/gpu={i}" for i in (ids or ["all"])]
        return [DeviceRequest(driver="cdi", device_ids=names)]
    if ids is None:
        return [DeviceRequest(count=-1, capabilities=[["gpu"]])]
    return [DeviceRequest(device_ids=ids, capabilities=[["gpu"]])]


def _follow(client: Any, image: Any, spec: Spec, ids: list[str] | None) -> int:
    """Make, start, show what it says on stderr, wait, remove."""
    container = _make(client, image, spec, None, ids)
    try:
        try:
            with engines.words("starting the probe's container"):
                container.start()
        except EnvironmentUnfit as error:
            if ids is not None or engines.has_gpu() or engines.TOOLKIT not in str(error):
                raise
            print("no GPU here: the container gets none", file=sys.stderr)
            container.remove(force=True, v=True)
            container = _make(client, image, spec, None, [])
            with engines.words("starting the probe's container"):
                container.start()
        with engines.words("following the probe's container"):
            for piece in container.logs(stream=True, follow=True):
                sys.stderr.write(piece.decode("utf-8", "replace"))
            return int(container.wait()["StatusCode"])
    finally:
        with engines.words("removing the probe's container"):
            container.remove(force=True, v=True)


def _record(run: Run, container: Any, digest: str) -> int:
    """Write launch.json: the container, and its process where this machine sees it."""
    state = container.attrs["State"]
    pid = int(state.get("Pid") or 0)
    if not state.get("Running") and run.status().state == "planned":
        said = container.logs(tail=5).decode("utf-8", "replace").strip()
        raise FtlabError(
            f"the container of run {run.id} ended at once with exit code {state.get('ExitCode')}"
            f"{f': {said}' if said else ''}; its log: {run.log_path}"
        )
    visible = pid > 0 and start_time(pid) is not None
    identity = Identity.of(pid).to_dict() if visible else {"pid": None}
    entry = {
        "version": 1, **identity, "where": "docker", "container": container.id, "image": digest,
        "started": time.time(),
    }  # fmt: skip
    atomic.write_json(run.launch_path, entry)
    return pid if visible else 0


@contextlib.contextmanager
def _container(run: Run) -> Iterator[Any]:
    """The container that launch.json names, or None."""
    import docker

    try:
        name = atomic.read_json(run.launch_path).get("container")
    except FtlabError:
        name = None
    if not name:
        yield None
        return
    with engines.session() as client:
        with engines.words(f"looking for the container of run {run.id}"):
            try:
                container = client.containers.get(name)
            except docker.errors.NotFound:
                container = None
        yield container


def _remove(container: Any, run_id: str) -> None:
    with engines.words(f"removing the container {container.short_id}"):
        container.remove(force=True, v=True)
    specs.forget_token(run_id)


def _name(run: Run) -> str:
    return f"ftlab-{run.id}"


def _under(path: Path, folders: Sequence[Path]) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
