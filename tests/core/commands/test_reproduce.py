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
from ftlab.errors import DataError, EnvironmentUnfit
from ftlab.facts import Facts
from ftlab.reproduce import bundle, noise
from ftlab.run import Run

pytestmark = pytest.mark.usefixtures("fake_trainer")


@pytest.fixture
def original(original: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run, and what it is judged against is sealed too."""
    real = reproduce.verdict.judge

    def judge(a: Run, b: Run) -> Any:
        manifest.seal(b, {"state": "done", "step": 5})  # the fake trainer seals nothing
        return real(a, b)

    monkeypatch.setattr(reproduce.verdict, "judge", judge)
    return original


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


def test_a_bundle_gives_the_verdict_of_its_run(
    original: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(bundle.write(original, tmp_path / "a.tar").path)
    there = ["--quiet", "--runs-dir", str(tmp_path / "there")]
    assert cli.main(["reproduce", path, "--name", "b", *there]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("BITWISE: b gave the same bits as a at each of 5")
    assert f"bundle {path} is whole; it is now run a" in told.err
    kept = json.loads((tmp_path / "there" / "b" / "reproduce.json").read_text())
    assert kept["original"] == str(tmp_path / "there" / "a")
    assert cli.main(["reproduce", path, *there]) == 0
    assert "it holds run a" in capsys.readouterr().err
    Path(path).write_bytes(Path(path).read_bytes()[:5000])
    assert cli.main(["reproduce", path, *there]) == 2
    assert "is truncated" in capsys.readouterr().err


def test_what_is_missing_here_is_named(
    original: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    path = str(bundle.write(original, tmp_path / "a.tar").path)
    words = ["reproduce", path, "--quiet", "--runs-dir", str(tmp_path / "there")]
    for error, code in (
        (DataError("no file rows.jsonl"), 2),
        (EnvironmentUnfit("there is no model some/model"), 3),
    ):

        def collect(config: Any, error: Exception = error, **_: Any) -> Facts:
            raise error

        monkeypatch.setattr("ftlab.probe.collect", collect)
        assert cli.main(words) == code
        told = capsys.readouterr().err
        assert str(error) in told
        assert "trained from model some/model (weights sha256 b)" in told
        assert "on data rows.jsonl (tokens sha256 dddddddddddd)" in told
        assert "--set data.source=FILE" in told
