"""ftrun reproduce --trace: the step is compared, a trace that is lacking is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftlab import cli
from ftlab.reproduce import bundle, trace
from ftlab.run import Run

pytestmark = pytest.mark.usefixtures("fake_trainer")


def reproduce(run: Run, *options: str) -> int:
    return cli.main(["reproduce", run.id, "--quiet", "--runs-dir", str(run.path.parent), *options])


def test_a_trace_is_made_where_the_bits_come_and_then_compared(
    original: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert reproduce(original, "--trace", "3", "--name", "b") == 0
    told = capsys.readouterr()
    assert "every step up to 3 has the bits of a" in told.out
    assert "a had no trace of step 3 and has this one now" in told.out
    assert trace.read(original, 3) is not None
    assert Run(original.path.parent / "b").status().step == 3
    assert reproduce(original, "--trace", "3") == 0
    assert "no tensor of step 3 differs" in capsys.readouterr().out
    monkeypatch.setenv("FAKE_ROUNDING", "1e-6")
    assert reproduce(original, "--trace", "3") == 4
    told = capsys.readouterr()
    assert "first difference: step 1: loss" in told.out
    assert "first tensor of step 3 that differs: gate in layer 0, forward pass" in told.out
    assert "they parted before: --trace 1 names the first tensor of all" in told.out


def test_as_json(original: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert reproduce(original, "--trace", "2", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], found["compared"], found["first"], found["tensor"]) == (
        2, False, None, None,
    )  # fmt: skip


def test_without_a_trace_to_compare_with_none_is_left(
    original: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_ROUNDING", "1e-6")
    assert reproduce(original, "--trace", "1") == 4
    assert "has no trace of step 1 to compare with" in capsys.readouterr().out
    assert trace.read(original, 1) is None


@pytest.mark.parametrize("step", ["6", "-1"])
def test_a_step_that_there_is_not(
    original: Run, step: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce(original, "--trace", step) == 2
    assert "1 to 5" in capsys.readouterr().err


def test_a_trainer_that_fails_is_told_by_its_code(
    original: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_FAIL_AT", "2")
    assert reproduce(original, "--trace", "3") == 1


def test_a_bundle_carries_it(
    original: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reproduce(original, "--trace", "3") == 0
    made = bundle.write(original, tmp_path / "a.tar")
    assert "traces/step-3.jsonl" in made.members
    there = ["--quiet", "--runs-dir", str(tmp_path / "there")]
    assert cli.main(["reproduce", str(made.path), *there, "--trace", "3"]) == 0
    assert "no tensor of step 3 differs" in capsys.readouterr().out
