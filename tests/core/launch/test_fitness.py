"""What the doctor is asked before a run, and what its red lines become."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftlab import cli
from ftlab.commands import common
from ftlab.errors import EnvironmentUnfit
from ftlab.launch import fitness
from ftlab.plan import Decision, Plan

MISMATCH = {
    "id": "driver.mismatch", "status": "fail", "title": "The driver was upgraded without a reboot",
    "fix": [{"cmd": "sudo reboot"}, {"cmd": "sudo rmmod nvidia"}],
}  # fmt: skip
MakePlan = Callable[..., Plan]


def _on_gpu(plan: Plan, precision: str = "bf16") -> Plan:
    config = replace(plan.config, model=replace(plan.config.model, precision=precision))
    return replace(
        plan, config=config, decisions=plan.decisions | {"device": Decision("cuda:0", "")}
    )


def _problem(plan: Plan, words: str, *, auto: bool = True) -> Plan:
    machine = replace(plan.facts.machine, gpu_problem=words)
    decisions = plan.decisions | ({"launch.devices": Decision([], words)} if auto else {})
    return replace(plan, facts=replace(plan.facts, machine=machine), decisions=decisions)


def test_a_plan_for_the_cpu_asks_nothing(make_plan: MakePlan) -> None:
    assert fitness.needed(make_plan()) == ()


def test_a_plan_for_a_gpu_asks_for_what_it_uses(make_plan: MakePlan) -> None:
    assert fitness.needed(_on_gpu(make_plan())) == fitness.GPU
    assert "bnb.binary" in fitness.needed(_on_gpu(make_plan(), "nf4"))


def test_a_gpu_that_torch_cannot_use_is_asked_about_unless_it_was_hidden(
    make_plan: MakePlan,
) -> None:
    broken = "CUDA unknown error"
    assert fitness.needed(_problem(make_plan(), broken)) == fitness.GPU
    assert fitness.needed(_problem(make_plan(), broken, auto=False)) == ()
    assert fitness.needed(_problem(make_plan(), "CUDA_VISIBLE_DEVICES='-1' hides every GPU")) == ()


def test_a_run_elsewhere_is_not_judged_by_this_machine(make_plan: MakePlan) -> None:
    plan = _on_gpu(make_plan())
    launch = replace(plan.config.launch, where="docker")
    assert fitness.needed(replace(plan, config=replace(plan.config, launch=launch))) == ()


def test_every_check_that_is_asked_for_exists() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ftlab_doctor", "--list", "--json"], capture_output=True, check=True
    )
    known = {row["id"] for row in json.loads(done.stdout)}
    assert {*fitness.GPU, *fitness.BITSANDBYTES} <= known


def test_the_real_doctor_answers() -> None:
    asked = ("platform.system", "torch.whole")
    assert {finding["id"] for finding in fitness.ask(asked)} == set(asked)


@pytest.mark.parametrize(
    "code", ["exit(1)", "print('rubbish')", "print('{}')", "import time; time.sleep(60)"]
)
def test_a_doctor_without_an_answer_stops_nobody(
    code: str, make_plan: MakePlan, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:  # fmt: skip
    (tmp_path / "fake").write_text(f"#!{sys.executable}\n{code}\n")
    (tmp_path / "fake").chmod(0o755)
    monkeypatch.setattr(fitness, "SECONDS", 1.0)
    monkeypatch.setattr(fitness.sys, "executable", str(tmp_path / "fake"))
    fitness.check(_on_gpu(make_plan()))


def test_without_a_doctor_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitness.importlib.util, "find_spec", lambda name: None)
    assert fitness.ask(fitness.GPU) == []


def test_red_lines_stop_the_run_with_cause_and_fix(
    make_plan: MakePlan,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`ftrun train`: exit 3, nothing is written; --no-doctor does not even ask."""
    asked: list[Any] = []
    monkeypatch.setattr(common, "make_plan", lambda config, runs_dir: _on_gpu(make_plan()))
    monkeypatch.setattr(fitness, "ask", lambda names: asked.append(names) or [MISMATCH])
    monkeypatch.chdir(tmp_path)
    words = ["train", "--model", "org/name", "--data", "rows.jsonl", "--quiet"]
    assert cli.main(words) == EnvironmentUnfit.exit_code == 3
    err = capsys.readouterr().err
    assert "without a reboot  (driver.mismatch)" in err
    assert "-> sudo reboot" in err
    assert "--no-doctor" in err
    assert not (tmp_path / "runs").exists()
    monkeypatch.setattr("ftlab.commands.train.start_and_watch", lambda *_: 0)
    assert cli.main([*words, "--no-doctor"]) == 0
    assert len(asked) == 1
