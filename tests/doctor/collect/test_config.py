"""--for CONFIG: what is read from a config, and the real planner's answer for this machine and others."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import doctor_fixtures as fixtures
import pytest

from ftlab_doctor import cli
from ftlab_doctor.checks.configured import verdict
from ftlab_doctor.collect import config
from ftlab_doctor.finding import Finding
from ftlab_doctor.host import Host
from ftlab_doctor.registry import run

STARTER = Path(__file__).parents[3] / "recipes" / "starter.yaml"
ROWS = '{"messages": [{"role": "user", "content": "Say yes."}, {"role": "assistant", "content": "Yes."}]}\n'


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("optim:\n  name: adamw\nmodel:\n  name: a/b\n  precision: bf16  # fast\n", {"name": "a/b", "precision": "bf16"}),
        ("model: {name: a/b, precision: nf4}\n# bf16: true\n", {"name": "a/b", "precision": "nf4"}),
        ("base_model: 'x/y'\nload_in_4bit: true\n#flash_attention: true\n", {"base_model": "x/y", "load_in_4bit": "true"}),
        ("datasets:\n  - name: z\nbf16: auto\n", {"bf16": "auto"}),
        ("a: [\n", {}),
    ],
)  # fmt: skip
def test_settings_are_told_from_comments_and_from_names_of_other_things(
    text: str, wanted: dict[str, str]
) -> None:
    assert config.asked(text) == wanted


def test_the_recipes_are_read() -> None:
    assert config.asked(STARTER.read_text("utf-8"))["name"] == "starter/model"


def test_a_snapshot_becomes_the_facts_of_a_machine() -> None:
    facts = fixtures.host("ubuntu-t4")
    machine = config.machine(facts)
    (gpu,) = machine["gpus"]
    assert (gpu["name"], gpu["capability"]) == ("Tesla T4", [7, 5])
    assert machine["driver"].startswith("535.")
    assert machine["versions"]["bitsandbytes"]
    assert machine["disk_free_bytes"] == facts["places"]["runs"]["free"]


@pytest.mark.parametrize(
    ("host", "change", "problem"),
    [
        ("ubuntu-t4", {"env": {"CUDA_VISIBLE_DEVICES": "-1"}}, "hides every GPU"),
        ("ubuntu-t4", {"builds": {"torch": {"cuda": None}}}, "without CUDA"),
        ("cpu-laptop", {}, ""),
    ],
)
def test_a_gpu_that_cannot_be_used_is_none(host: str, change: dict[str, Any], problem: str) -> None:
    machine = config.machine(fixtures.change(fixtures.host(host), change))
    assert machine["gpus"] == []
    assert problem in machine["gpu_problem"]


def test_the_limit_of_a_container_is_its_memory() -> None:
    facts = fixtures.change(fixtures.host("ubuntu-t4"), {"system": {"cgroup": {"memory": 1 << 30}}})
    machine = config.machine(facts)
    assert machine["memory_bytes"] == machine["memory_free_bytes"] == 1 << 30


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, smollm2: Path) -> Path:
    """A folder with a real small model and rows of data; one, so that they are probed once."""
    made = tmp_path_factory.mktemp("config")
    (made / "starter").mkdir()
    (made / "starter/train.jsonl").write_text(ROWS * 8)
    (made / "starter/model").symlink_to(smollm2)
    return made


@pytest.fixture
def folder(started: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """That folder, to work in."""
    monkeypatch.chdir(started)
    return started


def _config(folder: Path, **change: str) -> str:
    """The starter recipe, with pieces of its text replaced."""
    text = STARTER.read_text("utf-8")
    for old, new in (what.split(" -> ") for what in change.values()):
        assert old in text
        text = text.replace(old, new)
    path = folder / "run.yaml"
    path.write_text(text)
    return os.fspath(path)


def _asked(
    facts: dict[str, Any], path: str, *, elsewhere: bool
) -> tuple[dict[str, Finding], Finding]:
    config.collect(facts, path, elsewhere=elsewhere)
    return _judged(facts)


def _judged(facts: dict[str, Any]) -> tuple[dict[str, Finding], Finding]:
    host = Host(facts)
    findings = run(host)
    answer = verdict(host, findings)
    assert answer
    return {f.id: f for f in findings if f.id.startswith("config.")}, answer


def test_the_starter_recipe_runs_on_a_t4(folder: Path) -> None:
    found, answer = _asked(fixtures.host("ubuntu-t4"), _config(folder), elsewhere=True)
    assert {f.status for f in found.values()} <= {"ok", "skip"}
    assert "can run here: on cuda:0" in answer.title
    assert answer.status == "ok"


def test_a_model_too_large_for_the_card_of_the_snapshot(folder: Path) -> None:
    """The model of the test above, whose shape is known by now, on a card of half a GiB."""
    small = fixtures.change(
        fixtures.host("ubuntu-t4"), {"gpus": {"total": 1 << 29, "free": 1 << 29}}
    )
    found, answer = _asked(small, _config(folder), elsewhere=True)
    plan = found["config.plan"]
    assert plan.status == answer.status == "fail"
    assert "a step needs" in plan.title
    assert "smaller model" in plan.fix[0].cmd
    assert found["config.memory"].because == "config.plan"


def test_precision_that_the_card_lacks_is_told_before_the_planner_is_heard(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(config, "_command", lambda: [sys.executable, "-c", "exit(3)"])
    path = _config(folder, precision="precision: auto -> precision: bf16")
    found, answer = _asked(fixtures.host("ubuntu-t4"), path, elsewhere=True)
    assert found["config.precision"].status == answer.status == "fail"
    assert found["config.plan"].because == "config.precision"


def test_a_misspelt_setting_is_named_with_its_line(folder: Path) -> None:
    path = _config(folder, precision="precision: auto -> precison: auto")
    found, answer = _asked(fixtures.host("cpu-laptop"), path, elsewhere=False)
    assert "model.precison: unknown setting (line" in found["config.plan"].title
    assert found["config.plan"].fix[0].cmd == "did you mean precision?"
    assert answer.status == "fail"


def test_a_model_that_is_not_here_says_nothing_of_another_machine(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", os.fspath(folder))
    path = _config(folder, model="name: starter/model -> name: meta-llama/Llama-3.1-8B")
    facts = fixtures.change(fixtures.host("ubuntu-t4"), {"env": {"HF_TOKEN": None}, "token": None})
    found, answer = _asked(facts, path, elsewhere=True)
    assert (found["config.plan"].status, answer.status) == ("unknown", "unknown")
    assert found["config.token"].status == "warn"
    assert "meta-llama/Llama-3.1-8B" in found["config.token"].title
    del facts["config"]["elsewhere"]  # the same words of the planner, of this very machine
    found, answer = _judged(facts)
    assert found["config.plan"].status == answer.status == "fail"
    assert "hf download meta-llama/Llama-3.1-8B" in found["config.plan"].fix[0].cmd


def test_without_ftrun_it_is_unknown(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "_command", list)
    found, answer = _asked(fixtures.host("ubuntu-t4"), _config(folder), elsewhere=True)
    assert (found["config.plan"].status, answer.status) == ("unknown", "unknown")


def test_the_command_line_prints_the_answer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--for with --host, all the way; the exit code is that of the findings."""
    (folder / "host.json").write_text(json.dumps(fixtures.host("ubuntu-t4")))
    path = _config(folder, precision="precision: auto -> precison: auto")
    assert cli.main(["--for", path, "--host", os.fspath(folder / "host.json")]) == cli.FAILED
    out = capsys.readouterr().out
    assert "unknown setting" in out
    assert "cannot run here before this is mended: config.plan" in out
