"""ftrun compare: verdicts on stdout, 0 or 4, two runs at least."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ftlab import cli
from ftlab.run import Run


@pytest.fixture
def runs(
    runs_root: Path, make_plan: Callable[..., Any], load: Callable[[Path], ModuleType]
) -> Path:
    made = load(Path(__file__).parents[1] / "reproduce" / "conftest.py")
    for name, options in (("a", {}), ("b", {}), ("c", {"losses": {2: 9.0}})):
        made.finish(Run.create(make_plan(5), runs_root, name), **options)
    return runs_root


def test_equal(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "a", "b", "--runs-dir", str(runs)]) == 0
    assert capsys.readouterr().out.startswith("BITWISE: ")


def test_the_worst_verdict_counts(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "a", "b", "c", "--json", "--runs-dir", str(runs)]) == 4
    found = json.loads(capsys.readouterr().out)
    assert [verdict["verdict"] for verdict in found] == ["BITWISE", "NOT REPRODUCED"]
    assert found[1]["first"] == {"step": 2, "field": "loss", "a": 0.5, "b": 9.0}


def test_one_run_is_refused(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "a", "--runs-dir", str(runs)]) == 2
    assert "two runs or more" in capsys.readouterr().err
