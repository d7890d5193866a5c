"""ftrun sweep with the fake trainer: trains what is missing, goes on where it was, and counts."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftlab import cli
from ftlab.facts import Facts
from ftlab.launch import local
from ftlab.run import Run

pytestmark = pytest.mark.usefixtures("fake_trainer")
CONFIG = (
    "model: some/model\ndata: {source: rows.jsonl, eval_fraction: 0.1}\ntrain: {max_steps: 5}\n"
)
Sweep = Callable[..., int]


@pytest.fixture
def probes(make_facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every config that was probed; no child is started."""
    seen: list[Any] = []

    def collect(config: Any, **_: Any) -> Facts:
        seen.append(config)
        return make_facts(evaluation={})

    monkeypatch.setattr("ftlab.probe.collect", collect)
    monkeypatch.setenv("FAKE_EVAL", "1")
    return seen


@pytest.fixture
def sweep(probes: list[Any], runs_root: Path, tmp_path: Path) -> Sweep:
    path = tmp_path / "run.yaml"
    path.write_text(CONFIG)

    def run(*words: str, config: str = str(path)) -> int:
        fixed = ("--quiet", "--no-doctor", "--runs-dir", str(runs_root))
        return cli.main(["sweep", config, *words, *fixed])

    return run


def states(root: Path) -> list[str]:
    return sorted(f"{run.id.rpartition('-')[2]} {run.liveness()}" for run in Run.all(root))


def wait_for(condition: Callable[[], bool]) -> None:
    """Until it holds, however slow the machine is; the test's own time limit ends it."""
    while not condition():
        time.sleep(0.02)


@pytest.fixture
def interrupting() -> Iterator[Callable[..., None]]:
    """`interrupting(condition)`: a Ctrl-C as soon as the condition holds."""
    threads = []

    def begin(condition: Callable[[], bool]) -> None:
        def work() -> None:
            wait_for(condition)
            os.kill(os.getpid(), signal.SIGINT)

        threads.append(threading.Thread(target=work, daemon=True))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join(30)


def test_mean_sd_and_interval(
    sweep: Sweep, runs_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("--seeds", "1,2,3") == 0
    told = capsys.readouterr()
    assert [line.split() for line in told.out.splitlines()] == [
        ["METRIC", "RUNS", "MEAN", "SD", "95", "%", "INTERVAL"],
        ["loss", "3", "of", "3", "1.02", "0.01", "0.995159", "to", "1.04484"],
    ]
    assert "sweep of 3 runs (1 points, 3 seeds)" in told.err
    assert states(runs_root) == ["s1 done", "s2 done", "s3 done"]
    for run in Run.all(runs_root):
        assert run.plan().config.train.seed == int(run.id.rpartition("-s")[2])
        assert f"seed: {run.plan().config.train.seed}\n" in run.config_path.read_text()


def test_what_is_done_is_not_trained_again(
    sweep: Sweep, runs_root: Path, probes: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("--seeds", "1,2") == 0
    before = {run.id: run.events_path.read_bytes() for run in Run.all(runs_root)}
    assert sweep("--seeds", "1,2,3", "--json") == 0
    assert len(probes) == 2  # once per sweep and point, not per run
    made = json.loads(capsys.readouterr().out.split("\n", 2)[2])
    assert (made["runs"], made["done"]) == (3, 3)
    assert len(Run.all(runs_root)) == 3
    assert before.items() <= {r.id: r.events_path.read_bytes() for r in Run.all(runs_root)}.items()


def test_a_grid(sweep: Sweep, probes: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--seeds", "2", "--grid", "adapter.r=4,8", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert [point["grid"] for point in made["points"]] == [{"adapter.r": 4}, {"adapter.r": 8}]
    assert [run["seed"] for run in made["points"][0]["runs"]] == [3407, 3408]
    assert [config.adapter.r for config in probes] == [4, 8]


def test_a_run_that_fails_is_counted(
    sweep: Sweep, runs_root: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert sweep("--seeds", "1,") == 0
    monkeypatch.setenv("FAKE_FAIL_AT", "3")
    capsys.readouterr()
    assert sweep("--seeds", "1,2,3") == 1
    told = capsys.readouterr()
    assert "1 of 3" in told.out
    assert "s2 is failed and not counted" in told.err
    assert states(runs_root) == ["s1 done", "s2 failed", "s3 failed"]
    monkeypatch.delenv("FAKE_FAIL_AT")
    assert sweep("--seeds", "1,2,3") == 0
    assert "3 of 3" in capsys.readouterr().out


def test_ctrl_c_saves_stops_and_the_same_command_goes_on(
    sweep: Sweep, runs_root: Path, monkeypatch: pytest.MonkeyPatch,
    interrupting: Callable[..., None], capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def second_is_training() -> bool:
        return any(run.id.endswith("-s2") and run.status().step for run in Run.all(runs_root))

    real = local.start

    def start(run: Run, *, resume: bool = False) -> int:
        """The second run would take minutes: it is still training when the Ctrl-C comes."""
        monkeypatch.setenv("FAKE_STEP", "1" if run.id.endswith("-s2") else "0.001")
        return real(run, resume=resume)

    monkeypatch.setattr(local, "start", start)
    interrupting(second_is_training)
    assert sweep("--seeds", "1,2,3", "--set", "train.max_steps=200") == 130
    told = capsys.readouterr()
    assert told.out == ""
    assert "1 of 3 runs are done; the same command goes on" in told.err
    assert states(runs_root) == ["s1 done", "s2 stopped"]
    monkeypatch.setattr(local, "start", real)
    monkeypatch.setenv("FAKE_STEP", "0.001")
    assert sweep("--seeds", "1,2,3", "--set", "train.max_steps=200") == 0
    assert states(runs_root) == ["s1 done", "s2 done", "s3 done"]
    resumed = next(run for run in Run.all(runs_root) if run.id.endswith("-s2"))
    assert '"resumed_from": null' not in resumed.events_path.read_text().split('"started"')[2]


def test_a_killed_sweep_finds_its_run_training(
    sweep: Sweep, runs_root: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The trainer outlives the sweep; the next one follows it instead of a second one."""
    real = local.start

    def start(run: Run, *, resume: bool = False) -> int:
        real(run, resume=resume)
        raise SystemExit(9)  # as good as killed: nothing is cleaned up after this

    monkeypatch.setenv("FAKE_STEP", "0.1")
    monkeypatch.setattr(local, "start", start)
    assert sweep("--seeds", "2") == 9
    monkeypatch.setattr(local, "start", real)
    assert sweep("--seeds", "2") == 0
    told = capsys.readouterr()
    assert "2 of 2" in told.out
    for run in Run.all(runs_root):
        assert run.events_path.read_text().count('"started"') == 1


def test_a_killed_trainer_is_resumed(
    sweep: Sweep, runs_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_DIE_AT", "3")
    assert sweep("--seeds", "2") == 1
    assert states(runs_root) == ["s3407 lost", "s3408 lost"]
    monkeypatch.delenv("FAKE_DIE_AT")
    assert sweep("--seeds", "2") == 0


def test_a_report_trains_nothing(
    sweep: Sweep, runs_root: Path, probes: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("--seeds", "2", "--report", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["done"], made["points"][0]["runs"][0]["state"]) == (0, "absent")
    assert not runs_root.exists()
    assert not probes


def test_other_data_under_the_same_name_is_refused(
    sweep: Sweep, make_facts: Callable[..., Facts], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    assert sweep("--seeds", "1") == 0

    def collect(config: Any, **_: Any) -> Facts:
        facts = make_facts(evaluation={})
        return dataclasses.replace(facts, data=dataclasses.replace(facts.data, sha256="e" * 64))

    monkeypatch.setattr("ftlab.probe.collect", collect)
    assert sweep("--seeds", "2") == 2
    assert "planned before the data changed" in capsys.readouterr().err
    assert sweep("--seeds", "2", "--name", "other") == 0


def test_all_problems_before_a_run(
    sweep: Sweep, runs_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep("--seeds", "2", "--grid", "adapter.r=8,-1,0") == 2
    assert capsys.readouterr().err.count("adapter.r") == 2
    assert sweep("--seeds", "2", "--set", "data.eval_fraction=0") == 2
    assert sweep("--seeds", "600", "--grid", "adapter.r=4,8") == 2
    assert "1200 runs; 1000 are the most" in capsys.readouterr().err
    assert sweep("--seeds", "2", "--grid", "optim.lr=1e-4,2e-4") == 2
    assert "optim.learning_rate" in capsys.readouterr().err
    assert sweep("--seeds", "2", config="missing.yaml") == 2
    assert not runs_root.exists()


def test_standard_input_is_read_once(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(CONFIG))
    assert sweep("--seeds", "2", "--grid", "adapter.r=4,8", config="-") == 0
    assert capsys.readouterr().out.count("2 of 2") == 2
