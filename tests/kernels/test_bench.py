"""The kernels' benchmarks without a GPU: clear errors, and the tuning script's whole path."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from ftlab_kernels import tuning

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture
def tune(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """bench/tune.py on an imitated card of capability 8.6, its tables a copy."""
    spec = importlib.util.spec_from_file_location("tune", BENCH / "tune.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tune", module)  # dataclasses look there
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec.loader.exec_module(module)
    tables = tmp_path / "tuning"
    shutil.copytree(tuning.FOLDER, tables, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    monkeypatch.setattr(tuning, "FOLDER", tables)
    monkeypatch.setattr(tuning, "capability", lambda of: 86)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(module, "random", lambda *shape: torch.empty(shape, device="meta"))
    return module


def cases(tune: ModuleType, calls: Callable[[], object]) -> dict[str, object]:
    candidates = [{"ROWS": rows, "num_warps": 4, "num_stages": 1} for rows in (1, 2, 4)]
    case = tune.Case("rms_norm", "forward_64", lambda: (), calls, candidates)
    return {"rms_norm": lambda: iter([case])}


def test_the_best_candidate_goes_into_the_table(
    tune: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measure(call: Callable[[], object], copies: object) -> float:
        rows = int(tuning.lookup("rms_norm", "forward_64", 86)["ROWS"])
        if rows == 1:
            raise RuntimeError("does not compile")
        return 1.0 / rows

    monkeypatch.setattr(tune, "OPS", cases(tune, lambda: None))
    monkeypatch.setattr(tune, "measure", measure)
    path = tuning.FOLDER / "rms_norm.json"
    before = json.loads(path.read_text("utf-8"))
    assert tune.main(["rms_norm"]) == 0
    assert json.loads(path.read_text("utf-8")) == before
    assert tune.main(["rms_norm", "--write"]) == 0
    after = json.loads(path.read_text("utf-8"))
    assert after["forward_64"].pop("86") == {"ROWS": 4, "num_warps": 4, "num_stages": 1}
    assert after == before
    assert path.read_text("utf-8").count("\n") == len(before) + 2  # a line a class
    said = capsys.readouterr()
    assert said.out.count("forward_64") == 2
    assert "RuntimeError" in said.err


def test_a_class_without_a_candidate_fails_at_the_end(
    tune: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tune, "OPS", cases(tune, lambda: 1 / 0))
    assert tune.main(["--write"]) == 1
    assert "rms_norm forward_64: no candidate ran" in capsys.readouterr().err


def test_classes_and_candidates_are_those_of_the_tables(
    tune: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(tune.OPS) <= set(tuning.tables())
    for op, listed in tune.OPS.items():
        found = list(listed())
        assert len(found) > 1
        for case in found:
            keys = set(tuning.lookup(op, case.shape_class, 0))
            assert case.shape_class in tuning.table(op)
            assert case.candidates
            assert all(set(candidate) == keys for candidate in case.candidates)


def test_arguments_are_checked(tune: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        tune.main(["swish"])
    assert ended.value.code == 2
    assert "no candidates for swish; there are rms_norm, swiglu" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device would be measured")
@pytest.mark.parametrize(("script", "argument"), [("kernels", "all"), ("tune.py", "rms_norm")])
def test_without_a_device_one_line_and_exit_3(script: str, argument: str) -> None:
    done = subprocess.run(
        [sys.executable, str(BENCH / script), argument],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "need" in done.stderr
