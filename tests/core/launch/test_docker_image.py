"""An image is taken, pulled with a bar, or asked for in words."""

from __future__ import annotations

import io
from typing import Any

import pytest

from ftlab.errors import EnvironmentUnfit
from ftlab.launch import docker_engine, docker_image


@pytest.fixture
def client(engine: Any) -> Any:
    with docker_engine.session() as made:
        yield made


def test_the_name_that_is_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTLAB_IMAGE", "mine:1")
    assert docker_image.name_of(None) == "mine:1"
    assert docker_image.name_of("other") == "other"


def test_what_is_there_is_taken(engine: Any, client: Any) -> None:
    image = docker_image.ensure(client, "ftlab")
    assert docker_image.digest(image) == "sha256:" + "2" * 64
    image.attrs["RepoDigests"] = []
    assert docker_image.digest(image) == "sha256:" + "1" * 64


@pytest.mark.parametrize("name", ["registry.example/a/ftlab", "registry.example:5000/ftlab:x"])
def test_pulled_and_then_absent_is_said(
    engine: Any, client: Any, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.pull = [{"status": "Downloading", "id": "a", "progressDetail": {"current": 1}}]
    with pytest.raises(Exception, match="No such image"):
        docker_image.ensure(client, name)
    assert f"pulled {name}" in capsys.readouterr().err


def test_a_refused_pull_is_said(engine: Any, client: Any) -> None:
    engine.faults["POST /images"] = (500, "denied: login first")
    with pytest.raises(EnvironmentUnfit, match=r"cannot be pulled \(denied: login first\)"):
        docker_image.ensure(client, "a/b@sha256:" + "0" * 64)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_the_bar_counts_every_layer() -> None:
    stream = Terminal()
    lines: list[dict[str, Any]] = [
        {"status": "Downloading", "id": "a", "progressDetail": {"current": 1000, "total": 4000}},
        {"status": "Extracting", "id": "a"},
        {"status": "Downloading", "id": "b", "progressDetail": {"current": 1000, "total": 4000}},
    ]
    docker_image.show("x/y", lines, stream)
    assert "2.00k/8.00k" in stream.getvalue()
    with pytest.raises(EnvironmentUnfit, match="no space"):
        docker_image.show("x/y", [{"error": "no space"}], stream)
