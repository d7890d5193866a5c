"""The comparison of bench/ from end to end on the CPU: the sides that exist here, a tiny model."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

# PEFT asks transformers 5 for a property under the name it had in 4.
pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Any:
    """bench/compare.py, whatever else is called so."""
    monkeypatch.syspath_prepend(str(BENCH))
    spec = importlib.util.spec_from_file_location("bench_compare", BENCH / "compare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    yield module
    for name in ("sides", "random_model"):
        sys.modules.pop(name, None)


@pytest.fixture
def here(compare: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Children run in this process: importing transformers twice more would take most of it."""

    def ask(job: dict[str, Any], seconds: float, expected: float | None) -> list[dict[str, Any]]:
        shown = capsys.readouterr().out  # what was printed before
        compare.measure({**job, "expected": expected})
        lines = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
        print(shown, end="")
        assert "ms" not in lines[0]  # what is checked is known before anything is timed
        return [{**job, **lines[-1]}]

    monkeypatch.setattr(compare, "ask", ask)
    return compare


def run(compare: Any, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    given = ["compare.py", "--cases", "tiny", "--device", "cpu", "--steps", "1", *options]
    monkeypatch.setattr(sys, "argv", given)
    code: int = compare.main()
    return code


def test_our_side_and_peft_agree(
    here: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(here, monkeypatch, "--sides", "ftlab", "peft", "--modes", "none", "--json") == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(r["side"], r["mode"]) for r in results] == [
        ("ftlab", "none"), ("peft", "none"),
    ]  # fmt: skip
    for result in results:
        assert result["verdict"] == "ok"
        assert result["ms"] > 0
        assert result["grad_norm"] == pytest.approx(results[0]["grad_norm"], rel=0.02)


def test_a_side_that_disagrees_is_not_timed(
    compare: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    args = type("Args", (), {
        "rank": 4, "dropout": 0.0, "steps": 1, "device": "cpu", "tokenizer": None,
        "sides": ["ftlab"], "budget": [], "modes": None,
    })  # fmt: skip
    (job,) = compare.jobs(args, "tiny")
    compare.measure({**job, "expected": 1.0})
    (line,) = capsys.readouterr().out.splitlines()
    assert "ms" not in json.loads(line)


def test_verdicts(compare: Any) -> None:
    first = {"loss": 6.0, "without_grad": 0}
    assert compare.verdict(first, first) == "ok"
    assert "no gradient" in compare.verdict({**first, "without_grad": 3}, first)
    assert "first side has 6.0" in compare.verdict({**first, "loss": 6.1}, first)
    assert "first side has 6.0" in compare.verdict({**first, "loss": float("nan")}, first)
    assert compare.verdict({"error": "gone"}, first) == "failed: gone"


def test_no_time_left_is_said(
    compare: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(compare, monkeypatch, "--sides", "ftlab", "--seconds", "1") == 1
    assert "failed: no time left" in capsys.readouterr().out


def test_a_child_that_fails_says_why(
    compare: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(compare.sys, "executable", "/bin/false")
    (found,) = compare.ask({"side": "ftlab", "budgets": [None]}, 10.0, None)
    assert found["error"] == "exit code 1: no output"
