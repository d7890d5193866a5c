"""A trainer in a container: started, found again, stopped, its end told; GPUs and orphans."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import atomic, launch
from ftlab.errors import ConfigError, EnvironmentUnfit, FtlabError
from ftlab.launch import docker, docker_engine, docker_image, docker_spec, local
from ftlab.plan import Plan, to_json
from ftlab.run import Run
from ftlab.schema import LaunchSection

REAL = os.environ.get("FTLAB_TEST_ENGINE")


@pytest.fixture
def client(engine: Any) -> Any:
    """A client of the imitated engine."""
    with docker_engine.session() as made:
        yield made


@pytest.fixture
def in_docker(planned: Run, make_plan: Callable[..., Plan]) -> Run:
    """A planned run whose plan says docker."""
    plan = make_plan()
    config = dataclasses.replace(plan.config, launch=LaunchSection("docker", []))
    atomic.write_json(planned.plan_path, to_json(dataclasses.replace(plan, config=config)))
    return planned


def only(engine: Any) -> dict[str, Any]:
    (entry,) = engine.containers.values()
    return dict(entry)


def test_from_start_to_done(engine: Any, in_docker: Run) -> None:
    pid = launch.start(in_docker)
    assert launch.in_container(in_docker)
    assert in_docker.liveness() == "running"
    assert pid > 0
    made = only(engine)
    assert made["Config"]["Labels"] == {
        "ftlab.run": in_docker.id, "ftlab.path": str(in_docker.path), "ftlab.role": "trainer",
    }  # fmt: skip
    host = made["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["NetworkMode"]) == (
        True, ["ALL"], "none",
    )  # fmt: skip
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert "exec" in host["Tmpfs"]["/tmp"]
    assert host["ShmSize"] == 1 << 30
    assert made["Config"]["User"] == f"{os.getuid()}:{os.getgid()}"
    assert f"{in_docker.path}:{in_docker.path}:rw" in host["Binds"]
    assert not host.get("DeviceRequests")
    environment = made["Config"]["Env"]
    assert "FTLAB_IMAGE_DIGEST=sha256:" + "2" * 64 in environment
    assert "CUDA_VISIBLE_DEVICES=" in environment
    assert local.wait(in_docker, 20) == "done"
    assert "container " in in_docker.log_path.read_text()
    assert wait_for(lambda: launch.ending(in_docker) == "" and not engine.containers)
    with pytest.raises(ConfigError, match="is done"):
        launch.start(in_docker)


def wait_for(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_killed_for_memory_then_resumed(
    engine: Any, client: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DIE_AT", "20")
    engine.oom = True
    launch.start(in_docker)
    assert local.wait(in_docker, 20) == "lost"
    assert "killed for lack of memory (exit code 137)" in launch.ending(in_docker)
    monkeypatch.delenv("FAKE_DIE_AT")
    (orphan,) = docker.orphans(client)
    assert (orphan.run, orphan.why) == (in_docker.id, "it is exited")
    launch.start(in_docker, resume=True)
    assert len(engine.containers) == 1
    assert local.wait(in_docker, 20) == "done"


def test_an_exit_code_is_told(
    engine: Any, client: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DIE_AT", "20")
    launch.start(in_docker)
    assert local.wait(in_docker, 20) == "lost"
    assert launch.ending(in_docker) == "its container ended with exit code 137"
    docker.clean(client, docker.orphans(client))
    assert launch.ending(in_docker) == ""
    assert not engine.containers


def test_an_engine_that_notes_the_end_late_is_asked_again(
    engine: Any, client: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DIE_AT", "20")
    launch.start(in_docker)
    assert local.wait(in_docker, 20) == "lost"
    engine.late = 3
    assert launch.ending(in_docker) == "its container ended with exit code 137"
    monkeypatch.setattr(docker, "NOTED", 0.1)
    engine.late = 1_000
    assert launch.ending(in_docker) == ""
    engine.late = 0
    docker.clean(client, docker.orphans(client))


def test_stopped_by_the_engine(
    engine: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP", "0.2")
    launch.start(in_docker)
    assert wait_for(lambda: in_docker.status().step > 1)
    assert launch.ending(in_docker) == ""
    assert launch.stop(in_docker, 10, kill=True, ask=False) == "stopped"


def test_asked_to_stop_through_the_run_directory(
    engine: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP", "0.1")
    launch.start(in_docker)
    assert wait_for(lambda: in_docker.status().step > 1)
    assert launch.stop(in_docker, 10) == "stopped"


def test_a_running_container_is_not_thrown_away(
    engine: Any, client: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP", "0.2")
    launch.start(in_docker)
    with pytest.raises(EnvironmentUnfit, match="still runs"):
        docker.discard(client, in_docker)


def test_a_trainer_in_a_virtual_machine_has_no_pid_here(engine: Any, in_docker: Run) -> None:
    engine.unseen = True
    assert launch.start(in_docker) == 0
    assert in_docker.launched() is None
    assert local.wait(in_docker, 1) in ("planned", "running", "done")
    assert wait_for(lambda: in_docker.liveness() == "done", 20)


def test_a_container_that_ends_at_once_is_an_error(
    engine: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "_TO_LOG", "echo no such image part; exit 3 #")
    monkeypatch.setattr("ftlab.launch.docker._record", slowly(docker._record))
    with pytest.raises(FtlabError, match=r"ended at once with exit code 3"):
        launch.start(in_docker)


def slowly(record: Callable[..., int]) -> Callable[..., int]:
    def wait_first(run: Run, container: Any, digest: str) -> int:
        time.sleep(0.5)
        container.reload()
        return record(run, container, digest)

    return wait_first


def test_orphans_of_deleted_runs(
    engine: Any, client: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STEP", "0.2")
    launch.start(in_docker)
    assert docker.orphans(client) == []
    in_docker.path.rename(in_docker.path.with_name("moved"))
    (orphan,) = docker.orphans(client)
    assert orphan.why == "its run directory is gone"
    docker.clean(client, [orphan])
    assert not engine.containers


def test_a_module_in_a_container(
    engine: Any, tmp_path: Path, make_plan: Callable[..., Plan], capfd: Any
) -> None:
    config = dataclasses.replace(make_plan().config, launch=LaunchSection("docker", []))
    code = docker.run_module(config, "platform", [], tmp_path)
    assert code == 0
    assert "Linux" in capfd.readouterr().err
    assert not engine.containers


@pytest.mark.parametrize(
    ("ids", "info", "expected"),
    [
        (["0", "1"], {}, {"DeviceIDs": ["0", "1"], "Count": 0, "Driver": ""}),
        (None, {}, {"DeviceIDs": [], "Count": -1, "Driver": ""}),
        (["0"], {"cdi": True}, {"DeviceIDs": ["nvidia.com/gpu=0"], "Count": 0, "Driver": "cdi"}),
        (None, {"cdi": True}, {"DeviceIDs": ["nvidia.com/gpu=all"], "Count": 0, "Driver": "cdi"}),
    ],
)
def test_how_gpus_are_asked_for(
    engine: Any,
    client: Any,
    tmp_path: Path,
    ids: list[str] | None,
    info: dict[str, bool],
    expected: Any,
) -> None:
    if info:
        (tmp_path / "nvidia.yaml").touch()
        engine.info["CDISpecDirs"] = [str(tmp_path)]
    docker._make(client, client.images.get("ftlab"), docker_spec.Spec(["true"]), None, ids)
    (request,) = only(engine)["HostConfig"]["DeviceRequests"]
    assert {name: request[name] for name in expected} == expected


def test_podman_is_not_trusted_with_gpus(
    engine: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.podman = True
    image = client.images.get("ftlab")
    with pytest.raises(EnvironmentUnfit, match="ignores it"):
        docker._make(client, image, docker_spec.Spec(["true"]), None, ["0"])
    monkeypatch.setattr(docker_engine, "has_gpu", lambda: False)
    docker._make(client, image, docker_spec.Spec(["true"]), None, None)
    assert not only(engine)["HostConfig"]["DeviceRequests"]


def test_without_the_toolkit_a_probe_falls_back_only_where_no_gpu_is(
    engine: Any, tmp_path: Path, make_plan: Callable[..., Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    message = 'could not select device driver "" with capabilities: [[gpu]]'
    config = dataclasses.replace(make_plan().config, launch=LaunchSection("docker", "auto"))
    monkeypatch.setattr(docker_engine, "has_gpu", lambda: True)
    engine.faults["POST /containers/0001"] = (500, message)
    with pytest.raises(EnvironmentUnfit, match="container toolkit"):
        docker.run_module(config, "platform", [], tmp_path)
    monkeypatch.setattr(docker_engine, "has_gpu", lambda: False)
    engine.faults = {"POST /containers/0002": (500, message)}
    assert docker.run_module(config, "platform", [], tmp_path) == 0


def test_rootless_root_is_the_user(engine: Any, in_docker: Run) -> None:
    engine.info["SecurityOptions"] = ["name=rootless", "name=selinux"]
    launch.start(in_docker)
    assert only(engine)["Config"]["User"] == "0:0"
    assert "label=disable" in only(engine)["HostConfig"]["SecurityOpt"]
    assert local.wait(in_docker, 20) == "done"


def test_no_image_says_how_to_build_it(engine: Any, in_docker: Run) -> None:
    engine.images.clear()
    with pytest.raises(EnvironmentUnfit, match="make image"):
        launch.start(in_docker)
    assert in_docker.liveness() == "planned"
    assert docker_image.name_of(None) == "ftlab"


def test_a_token_is_never_in_what_an_inspection_shows(
    engine: Any, in_docker: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    launch.start(in_docker)
    made = only(engine)
    assert "hf_very_secret" not in str(made)
    assert f"HF_TOKEN_PATH={docker_spec.SECRET}" in made["Config"]["Env"]
    (bind,) = [b for b in made["HostConfig"]["Binds"] if docker_spec.SECRET in b]
    kept = Path(bind.split(":")[0])
    assert kept.read_text() == "hf_very_secret"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert local.wait(in_docker, 20) == "done"
    assert wait_for(lambda: launch.ending(in_docker) == "" and not kept.exists())


# -- a real engine --------------------------------------------------------------------------------


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not REAL:
        pytest.skip("no engine: .ci/containers starts one and sets FTLAB_TEST_ENGINE")
    monkeypatch.setenv("DOCKER_HOST", REAL)
    with docker_engine.session() as made:
        yield made


def said(client: Any, command: list[str], ids: list[str] | None) -> str:
    image = client.images.get(os.environ.get("FTLAB_TEST_IMAGE", "ftlab:cu121"))
    container = docker._make(client, image, docker_spec.Spec(command), None, ids)
    try:
        container.start()
        container.wait()
        return str(container.logs().decode())
    finally:
        container.remove(force=True, v=True)


@pytest.mark.engine
def test_real_container_is_locked_down(real: Any) -> None:
    script = "touch /x || echo read-only; grep CapEff /proc/self/status; ls /sys/class/net"
    text = said(real, ["sh", "-c", script], [])
    assert "read-only" in text
    assert "CapEff:\t0000000000000000" in text
    assert text.split()[-1] == "lo"


@pytest.mark.engine
@pytest.mark.parametrize(("ids", "seen"), [(["0", "1"], "0,1"), (None, "all")])
def test_real_gpu_request_reaches_the_runtimes_hook(
    real: Any, ids: list[str] | None, seen: str
) -> None:
    if docker_engine.is_podman(real):
        with pytest.raises(EnvironmentUnfit, match="podman"):
            said(real, ["true"], ["0"])
        return
    asked = Path(str(REAL).removeprefix("unix://")).parent / "gpu-request.json"
    asked.unlink(missing_ok=True)
    assert said(real, ["printenv", "NVIDIA_VISIBLE_DEVICES"], ids).strip() == seen
    assert '"pid"' in asked.read_text()


@pytest.mark.engine
def test_real_absent_image_is_said(real: Any) -> None:
    with pytest.raises(EnvironmentUnfit, match="make image"):
        docker_image.ensure(real, "ftlab:never-built")
    with pytest.raises(EnvironmentUnfit, match="cannot be pulled"):
        docker_image.ensure(real, "localhost:1/ftlab:never")
