"""ftrun bundle: a path on stdout, its sha256 on stderr, everything with --json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ftlab import cli
from ftlab.run import Run


@pytest.fixture
def root(
    runs_root: Path, make_plan: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    load: Callable[[Path], ModuleType],
) -> Path:  # fmt: skip
    path = Path(__file__).parents[1] / "reproduce" / "conftest.py"
    load(path).finish(Run.create(make_plan(5), runs_root, "a"))
    Run.create(make_plan(5), runs_root, "unfinished")
    (runs_root.parent / "here").mkdir()
    monkeypatch.chdir(runs_root.parent / "here")
    return runs_root


def test_it_is_named_after_the_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bundle", "a", "--runs-dir", str(root)]) == 0
    told = capsys.readouterr()
    assert told.out == "a.ftlab.tar\n"
    assert hashlib.sha256(Path("a.ftlab.tar").read_bytes()).hexdigest() in told.err


def test_json(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    words = ["bundle", "a", "--to", str(folder), "--no-weights", "--json", "--runs-dir", str(root)]
    assert cli.main(words) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["path"] == str(folder / "a.ftlab.tar")
    assert made["bytes"] == (folder / "a.ftlab.tar").stat().st_size
    assert "ledger.bin" in made["members"]
    assert any("left out" in words for words in made["lacking"])


def test_what_cannot_be_bundled(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bundle", "unfinished", "--runs-dir", str(root)]) == 2
    assert "is planned" in capsys.readouterr().err
    target = tmp_path / "no" / "such" / "b.tar"
    assert cli.main(["bundle", "a", "--to", str(target), "--runs-dir", str(root)]) == 1
    assert "is gone" in capsys.readouterr().err
    assert cli.main(["bundle", "b", "--runs-dir", str(root)]) == 2
