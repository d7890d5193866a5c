"""ftrun reproduce: runs again with the fake trainer, judges, and keeps the verdict."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import cli, manifest
from ftlab.commands import reproduce
from ftlab.facts import Facts
from ftlab.launch import local
from ftlab.plan import Plan
from ftlab.reproduce import noise
from ftlab.run import Run

pytestmark = pytest.mark.usefixtures("fake_trainer")


@pytest.fixture
def original(
    runs_root: Path, resolve: Callable[..., Plan], make_facts: Callable[..., Facts],
    monkeypatch: pytest.MonkeyPatch,
) -> Run:  # fmt: skip
    """A run of the fake trainer that is done, sealed by us; a probe without a child."""
    plan = resolve(["train.max_steps=5"])
    run = Run.create(plan, runs_root, "a")
    local.start(run)
    assert local.wait(run, 20) == "done"
    manifest.seal(run, {"state": "done", "step": 5})
    monkeypatch.setattr("ftlab.probe.collect", lambda config, **_: make_facts())
    real = reproduce.verdict.judge

    def judge(a: Run, b: Run) -> Any:
        manifest.seal(b, {"state": "done", "step": 5})  # the fake trainer seals nothing
        return real(a, b)

    monkeypatch.setattr(reproduce.verdict, "judge", judge)
    return run


def test_bitwise(original: Run, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["reproduce", "a", "--name", "b", "--quiet", "--runs-dir", str(original.path.parent)]
    assert cli.main(words) == 0
    assert capsys.readouterr().out.startswith("BITWISE: b gave the same bits as a at each of 5")
    kept = json.loads((original.path.with_name("b") / "reproduce.json").read_text())
    assert (kept["verdict"], kept["original"]) == ("BITWISE", str(original.path))


def test_other_data_is_said_before_a_step(
    original: Run, make_facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def other(config: Any, **_: Any) -> Facts:
        facts = make_facts()
        return dataclasses.replace(facts, data=dataclasses.replace(facts.data, sha256="e" * 64))

    monkeypatch.setattr("ftlab.probe.collect", other)
    root = str(original.path.parent)
    assert cli.main(["reproduce", "a", "--json", "--runs-dir", root]) == 4
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "INCOMPARABLE"
    assert [run.id for run in Run.all(root)] == ["a"]


def test_a_run_that_fails_is_no_verdict(
    original: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_FAIL_AT", "2")
    words = ["reproduce", "a", "--quiet", "--runs-dir", str(original.path.parent)]
    assert cli.main(words) == 1
    assert capsys.readouterr().out == ""


def test_a_floor_is_calibrated_and_kept(
    runs_root: Path, original: Run, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["reproduce", "a", "--quiet", "--runs-dir", str(runs_root), "--calibrate"]
    assert cli.main([*words, "1"]) == 2
    assert "--calibrate takes 2 to" in capsys.readouterr().err
    assert cli.main([*words, "2"]) == 2
    assert "changed a bit" in capsys.readouterr().err
    assert noise.load(original) is None
    monkeypatch.setenv("FAKE_ROUNDING", "1e-6")
    assert cli.main([*words, "2"]) == 0  # 2 differ from it and from each other: so does the third
    told = capsys.readouterr()
    assert "calibrates a with train.micro_batch_size" in told.err
    assert told.out.startswith("NUMERIC: ")
    kept = noise.load(original)
    assert kept is not None
    assert len(kept.runs) == 2
    assert max(kept.floor["loss"]) > 0
