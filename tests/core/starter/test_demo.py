"""The demo: the ordinary path from a config to a table, its verdict, and Ctrl-C."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftlab import cli, config, yamltext
from ftlab.errors import ConfigError, FtlabError, VerdictNegative
from ftlab.run import Run
from ftlab.starter import demo

ROOT = Path(__file__).resolve().parents[3]
FEW = ["--set", "train.max_steps=2", "--set", "adapter.r=4"]


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


def test_the_whole_way(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["demo", "--runs-dir", str(tmp_path), "--name", "first", *FEW])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    run = Run.find("first", tmp_path)
    assert run.liveness() == "done"
    for place in (run.path, run.export_dir / "adapter", run.manifest_path):
        assert str(place) in printed.out
        assert place.exists()
    assert "0.0% (0 of 64)" in printed.out
    assert "One row as it is trained" in printed.err  # the plan
    saved = json.loads((run.path / "exact_match.json").read_text())
    assert len(saved["before"]["answers"]) == len(saved["after"]["answers"]) == 64
    command = next(line for line in printed.out.splitlines() if "ftrun train" in line).split()
    again = config.load(command[2])  # the config it names trains other data as it stands
    assert again.data.source.endswith("train.jsonl")


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


def test_json_ends_with_the_result(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"score": 0.5, "correct": 32, "rows": 64, "answers": []}
    monkeypatch.setattr(demo, "score", lambda *_: found)
    assert cli.main(["demo", "--json", "--runs-dir", str(tmp_path), *FEW]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds[0] == "run"
    assert kinds[-1] == "result"
    assert kinds.count("step") == 2
    assert (lines[-1]["before"], lines[-1]["rows"]) == (0.5, 64)


def test_a_score_that_fails_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

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
