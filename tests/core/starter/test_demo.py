"""The demo: the ordinary path from a config to a table, its verdict, and Ctrl-C."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ftlab import cli, config, yamltext
from ftlab.errors import ConfigError, FtlabError, VerdictNegative
from ftlab.run import Run
from ftlab.starter import data, demo

ROOT = Path(__file__).resolve().parents[3]
FEW = ["--set", "train.max_steps=2", "--set", "adapter.r=4"]


@dataclass
class Finished:
    """A demo that was run: its run, what it printed on stdout, what it narrated."""

    run: Run
    lines: list[dict[str, Any]]
    narration: str


@pytest.fixture
def tiny(tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache with the tiny model is the cache."""
    monkeypatch.setenv("FTLAB_CACHE", str(tiny_cache))
    return tiny_cache


def test_the_recipe_is_the_demo() -> None:
    """recipes/starter.yaml gives the same config; only the places of model and data differ."""
    recipe = config.load(ROOT / "recipes/starter.yaml")
    assert recipe == demo.demo_config(Path("starter/model"), Path("starter/train.jsonl"), [])
    for section, values in demo.SETTINGS.items():
        written = yamltext.read((ROOT / "recipes/starter.yaml").read_text(), "recipe").value
        assert values.items() <= written[section].items()


def test_prepare_gives_what_the_recipe_names(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # again is no fault
        assert cli.main(["demo", "--prepare", "starter"]) == 0
    assert capsys.readouterr().out.splitlines() == ["starter", "starter"]
    recipe = config.load(ROOT / "recipes/starter.yaml")
    assert Path(recipe.model.name, "config.json").is_file()
    assert Path(recipe.data.source).is_file()


@pytest.fixture(scope="module")
def finished(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """One demo of two steps and eight held-out rows, all of it real, as JSON."""
    out, err, root = io.StringIO(), io.StringIO(), tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FTLAB_CACHE", str(tiny_cache))
        patch.setattr(data, "HELD_OUT_ROWS", 8)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = cli.main(["demo", "--json", "--runs-dir", str(root), "--name", "first", *FEW])
    assert code == 0, err.getvalue()
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    return Finished(Run.find("first", root), lines, err.getvalue())


def test_the_whole_way(finished: Finished) -> None:
    """Plan, score, run, score: everything lies where the result says."""
    run, result = finished.run, finished.lines[-1]
    assert run.liveness() == "done"
    assert "One row as it is trained" in finished.narration  # the plan
    assert finished.narration.index("before: asking") < finished.narration.index("after: asking")
    assert (result["before"], result["after"], result["rows"]) == (0.0, 0.0, 8)
    for name in ("run", "adapter", "manifest", "answers", "model", "data"):
        assert Path(result[name]).exists(), name
    saved = json.loads((run.path / "exact_match.json").read_text())
    assert len(saved["before"]["answers"]) == len(saved["after"]["answers"]) == 8
    assert config.load(run.config_path).data.source == result["data"]


def test_json_is_the_run_its_events_and_the_result(finished: Finished) -> None:
    kinds = [line["kind"] for line in finished.lines]
    assert kinds[0] == "run"
    assert kinds[-2:] == ["exit", "result"]
    assert kinds.count("step") == 2


def test_the_table(finished: Finished, capsys: pytest.CaptureFixture[str]) -> None:
    before = json.loads((finished.run.path / "exact_match.json").read_text())["before"]
    after = {**before, "score": 1.0, "correct": 8}
    args = SimpleNamespace(json=False)
    files = data.Files(*[Path("train.jsonl")] * 4)
    demo.tell(args, finished.run, files, before, after)  # type: ignore[arg-type]
    printed = capsys.readouterr().out
    assert "0.0% (0 of 8)  " in printed
    assert max(map(len, printed.split("where")[0].splitlines())) <= 80
    assert "100.0% (8 of 8)" in printed
    assert str(finished.run.export_dir / "adapter") in printed
    command = next(line for line in printed.splitlines() if "ftrun train" in line).split()
    assert Path(command[2]).samefile(finished.run.config_path)
    assert command[3:] == ["--model", "NAME", "--data", "SOURCE"]


@pytest.mark.parametrize("argv", [["--nam"], ["--set", "optim.learning_rat=1"]])
def test_bad_input_is_said_before_any_work(
    argv: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("FTLAB_CACHE", str(tmp_path / "cache"))
    assert cli.main(["demo", "--runs-dir", str(tmp_path / "runs"), *argv]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # nothing was downloaded or written


def test_a_name_that_is_taken(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ConfigError, match="taken"):
        demo.main(["--runs-dir", str(tmp_path), "--name", "taken"])


@pytest.mark.parametrize(("before", "after"), [(0.31, 1.0), (0.0, 0.84)])
def test_a_missed_result_is_a_negative_verdict(before: float, after: float) -> None:
    with pytest.raises(VerdictNegative, match="should go from under 30% to over 85%"):
        demo.judge(before, after)
    demo.judge(0.30, 0.85)


def test_a_score_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decision = SimpleNamespace(value="cpu")
    plan = SimpleNamespace(
        facts=SimpleNamespace(model=SimpleNamespace(path=str(tmp_path))),
        decisions={"device": decision, "compute_dtype": decision},
    )
    with pytest.raises(FtlabError, match=r"could not be scored \(exit code 1\)"):
        demo.score(plan, tmp_path / "none.jsonl", None)  # type: ignore[arg-type]


def test_ctrl_c_before_the_run_leaves_nothing(tiny: Path, tmp_path: Path) -> None:
    """Interrupted while the untrained model is asked: exit 130, no run, no process."""
    code = "import sys; from ftlab.cli import main; sys.exit(main(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, "demo", "--runs-dir", str(tmp_path / "runs"), *FEW],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "core") + os.pathsep + str(ROOT / "kernels")},
    ) as process:  # fmt: skip
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("before:"):
                break
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        rest = process.stderr.read()
        assert process.wait(60) == 130, rest
    assert "Traceback" not in rest
    runs = tmp_path / "runs"
    assert not runs.exists() or not any(runs.iterdir())
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
