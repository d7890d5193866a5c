"""Plans for another machine: its facts from a file, model and data from here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import config, probe
from ftlab.commands import common
from ftlab.errors import ConfigError, EnvironmentUnfit, TryLater
from ftlab.facts import Facts, to_json
from ftlab.schema import RunConfig

ASKED = "model: org/name\ndata: rows.jsonl\n"


@pytest.fixture
def asked() -> RunConfig:
    return config.parse(ASKED, "run.yaml")


def _write(path: Path, facts: Facts) -> str:
    path.write_text(json.dumps(to_json(facts.machine)))
    return str(path)


def test_the_plan_is_for_the_machine_in_the_file(
    asked: RunConfig,
    make_facts: Callable[..., Facts],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr(probe, "collect", lambda config, runs_dir: make_facts())
    there = _write(tmp_path / "machine.json", make_facts(gpus=("h100",)))
    here = common.make_plan(asked, "runs")
    assert here.decided("device") == "cpu"
    assert common.make_plan(asked, "runs", there).decided("device") == "cuda:0"


def test_what_cannot_be_read_here_is_no_fault_of_the_other_machine(
    asked: RunConfig,
    make_facts: Callable[..., Facts],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def collect(config: RunConfig, runs_dir: str) -> Facts:
        raise EnvironmentUnfit("model 'org/name' is gated")

    monkeypatch.setattr(probe, "collect", collect)
    there = _write(tmp_path / "machine.json", make_facts(gpus=("h100",)))
    with pytest.raises(TryLater, match="this computer cannot read it: model 'org/name' is gated"):
        common.make_plan(asked, "runs", there)
    with pytest.raises(EnvironmentUnfit):
        common.make_plan(asked, "runs")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"gpus": 3}'])
def test_a_file_without_such_facts_is_refused(asked: RunConfig, text: str, tmp_path: Path) -> None:
    path = tmp_path / "machine.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="holds no facts of a machine"):
        common.make_plan(asked, "runs", str(path))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None), ("2", 2), ("0,1", [0, 1]), ("[3]", [3]), ("0 1", [0, 1]), ("auto", "auto"),
        ("cpu", []), ("[]", []), ("two", "two"), ("-1", "-1"), ("1,", [1]),
    ],
)  # fmt: skip
def test_devices_by_count_or_by_name(text: str | None, value: object) -> None:
    assert common._devices(text) == value
