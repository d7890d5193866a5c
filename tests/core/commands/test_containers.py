"""ftrun containers: what is left over is listed, and removed only when asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftlab import cli
from ftlab.launch import docker, docker_engine
from ftlab.launch.docker import Orphan


class Client:
    def close(self) -> None: ...


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    state: dict[str, Any] = {"found": [Orphan("1" * 64, "a", "/gone", "exited", "it is exited")]}
    monkeypatch.setattr(docker_engine, "connect", Client)
    monkeypatch.setattr(docker, "orphans", lambda client: state["found"])
    monkeypatch.setattr(docker, "clean", lambda client, found: state.update(cleaned=list(found)))
    return state


def test_listed_and_left_alone(left: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["containers"]) == 0
    assert "111111111111  a    exited  it is exited" in capsys.readouterr().out
    assert "cleaned" not in left
    assert cli.main(["containers", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["run"] == "a"


def test_cleaned_when_asked(left: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["containers", "--clean"]) == 0
    assert left["cleaned"] == left["found"]
    left["found"] = []
    assert cli.main(["containers", "--clean"]) == 0
    assert "no container of ours is left over" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "cleaned"), [("y\n", True), ("\n", False)])
def test_asked_on_a_terminal(
    left: dict[str, Any], answer: str, cleaned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import sys

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert cli.main(["containers"]) == 0
    assert ("cleaned" in left) is cleaned
