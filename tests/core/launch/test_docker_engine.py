"""An engine is found as `docker` finds it, and every fault is said in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit, FtlabError, TryLater
from ftlab.launch import docker_engine

docker = pytest.importorskip("docker")  # its users have it; a bare torch need not


def test_the_engine_of_docker_host(engine: Any) -> None:
    with docker_engine.session() as client:
        look(engine, client)


def look(engine: Any, client: Any) -> None:
    assert docker_engine.find() == engine.address
    assert not docker_engine.is_podman(client)
    assert not docker_engine.is_rootless(client)
    engine.podman, engine.info["SecurityOptions"] = True, ["name=rootless"]
    assert docker_engine.is_podman(client)
    assert docker_engine.is_rootless(client)


def test_the_first_usual_socket(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker_engine, "_context", lambda: "")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert str(tmp_path / "podman/podman.sock") in docker_engine._sockets()
    monkeypatch.setattr(docker_engine, "_sockets", lambda: [str(tmp_path / "a")])
    with pytest.raises(EnvironmentUnfit, match=r"no Docker engine was found .*DOCKER_HOST"):
        docker_engine.find()
    (tmp_path / "a").touch()
    assert docker_engine.find() == f"unix://{tmp_path}/a"


def test_the_chosen_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from docker.context import ContextAPI

    class Context:
        name, Host = "rootless", "unix:///run/user/1/docker.sock"

    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(ContextAPI, "get_current_context", lambda: Context)
    assert docker_engine.find() == Context.Host
    monkeypatch.setattr(ContextAPI, "get_current_context", lambda: None)
    assert docker_engine._context() == ""

    def broken() -> None:
        raise docker.errors.DockerException("no such context")

    monkeypatch.setattr(ContextAPI, "get_current_context", broken)
    assert docker_engine._context() == ""


@pytest.mark.parametrize("address", ["ssh://me@there", "tcp://10.0.0.1:2375"])
def test_an_engine_elsewhere_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(EnvironmentUnfit, match="another machine"):
        docker_engine.connect()


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(EnvironmentUnfit, match=r"no engine answers at .*no such socket"):
        docker_engine.connect()


@pytest.mark.parametrize(
    ("said", "kind", "told"),
    [
        ('could not select device driver "" with capabilities: [[gpu]]', EnvironmentUnfit,
         "container toolkit"),
        ("dial unix /var/run/docker.sock: permission denied", EnvironmentUnfit, "usermod"),
        ("write /var/lib/docker: no space left on device", EnvironmentUnfit, "disk is full"),
        ("Read timed out.", TryLater, "did not answer"),
        ("something else", FtlabError, "doing it: something else"),
    ],
)  # fmt: skip
def test_faults_in_words(said: str, kind: type[FtlabError], told: str) -> None:
    with pytest.raises(kind, match=told) as caught, docker_engine.words("doing it"):
        raise docker.errors.DockerException(said)
    assert type(caught.value) is kind


def test_no_permission_on_the_socket(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine.os, "access", lambda *_: False)
    with pytest.raises(EnvironmentUnfit, match="no permission on its socket"):
        docker_engine.connect()


def test_words_of_ours_pass_through() -> None:
    with pytest.raises(TryLater, match="ours"), docker_engine.words("doing it"):
        raise TryLater("ours")


def test_a_gpu_shows_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(docker_engine, "DEVICE_FILES", (str(tmp_path / "dxg"),))
    assert not docker_engine.has_gpu()
    (tmp_path / "dxg").touch()
    assert docker_engine.has_gpu()
