"""Programs that answer, hang, are missing or shout; and libraries that lie nowhere."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import commands
from ftlab_doctor.collect.reading import which


def test_what_a_program_said() -> None:
    assert commands.run(["sh", "-c", "echo out; echo err >&2; exit 3"]) == {"rc": 3, "out": "out\n", "err": "err\n"}  # fmt: skip
    assert commands.run(["/no/such/program"])["error"] == "not found"
    assert commands.run(["sleep", "60"], 0.2)["error"] == "no answer in 0.2 s"
    assert len(commands.run([sys.executable, "-c", "print('x' * 10**6)"])["out"]) == commands.LIMIT


@pytest.mark.quiet
def test_answers_are_waited_for_side_by_side() -> None:
    start = time.monotonic()
    waiting = [commands.Later(commands.run, ["sleep", "0.5"], 9.0) for _ in range(8)]
    assert all(later.result()["rc"] == 0 for later in waiting)
    assert time.monotonic() - start < 3.5


def test_a_question_that_raises_is_an_answer() -> None:
    def ask() -> commands.Answer:
        raise RuntimeError("no")

    assert commands.Later(ask).result() == {"rc": None, "error": "RuntimeError: no"}


def test_a_library_that_lies_somewhere_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    assert commands.findable("libc.so.6")
    assert not commands.findable("libnowhere.so.77")
    (tmp_path / "libnowhere.so.77").write_text("")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/none:{tmp_path}")
    assert commands.findable("libnowhere.so.77")


def test_no_child_is_started_for_a_library_that_lies_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr(commands, "run", lambda *_: pytest.fail("a child was started"))
    answer = commands.child("nvml_child.py", "libnowhere.so.77", 1.0)
    assert "cannot open shared object file" in json.loads(answer["out"])["missing"]


@pytest.mark.parametrize(("name", "key"), [("nvml_child.py", "rc"), ("cuda_child.py", "init")])
def test_the_children_answer_in_json_whatever_there_is(name: str, key: str) -> None:
    script = os.path.join(os.path.dirname(commands.__file__), name)
    answer = commands.run([sys.executable, "-I", "-S", script], 30.0)
    assert answer["rc"] == 0, answer
    facts = json.loads(answer["out"])
    assert key in facts or "missing" in facts


def test_a_child_that_dies_is_a_fact() -> None:
    class Dead(commands.Later):
        def __init__(self) -> None:
            pass

        def result(self) -> commands.Answer:
            return {"rc": -11, "out": "", "err": "Segmentation fault"}

    facts: dict[str, Any] = {}
    commands.finish(facts, {"nvml": Dead(), "cuda": Dead()})
    assert facts["nvml"] == {"died": -11, "error": "Segmentation fault"}


def test_which_is_that_of_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tool").write_text("")
    monkeypatch.setenv("PATH", f"/none:{tmp_path}")
    assert which("tool") is None
    (tmp_path / "tool").chmod(0o755)
    assert which("tool") == str(tmp_path / "tool")
    assert which(str(tmp_path / "tool")) == str(tmp_path / "tool")
    assert which("other") is None
