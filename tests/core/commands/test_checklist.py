"""ftrun checklist: Markdown by default, LaTeX and JSON when asked, runs that are done only."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import cli, manifest
from ftlab.plan import Plan
from ftlab.run import Run


@pytest.fixture
def root(runs_root: Path, resolve: Callable[..., Plan]) -> str:
    for name, state in (("a", "done"), ("b", "failed")):
        run = Run.create(resolve(["train.max_steps=5"]), runs_root, name)
        manifest.seal(run, {"state": state, "step": 5})
        run.write_status(dataclasses.replace(run.status(), state=state, step=5))
    return str(runs_root)


def test_formats(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["checklist", "a", "--runs-dir", root]) == 0
    told = capsys.readouterr().out
    assert told.startswith("# Reproducibility\n")
    assert "| failed | 1 |" in told
    assert cli.main(["checklist", "a", "--format", "latex", "--runs-dir", root]) == 0
    assert capsys.readouterr().out.startswith("\\section*{Reproducibility}\n")
    assert cli.main(["checklist", "a", "--json", "--runs-dir", root]) == 0
    made = json.loads(capsys.readouterr().out)
    assert {"title", "neurips", "acl", "answer", "blocks"} == set(made[0])


def test_what_is_refused(root: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["checklist", "b", "--runs-dir", root]) == 2
    assert "is failed" in capsys.readouterr().err
    assert cli.main(["checklist", "a", "--format", "word", "--runs-dir", root]) == 2
    assert cli.main(["checklist", "--runs-dir", root]) == 2
    assert cli.main(["checklist", "c", "--runs-dir", root]) == 2
