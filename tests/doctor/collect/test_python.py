"""The interpreter: whose pip, what lies on its path, and what would be imported by mistake."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ftlab_doctor.collect import python


def _collect() -> dict[str, Any]:
    facts: dict[str, Any] = {}
    python.collect(facts)
    found: dict[str, Any] = facts["python"]
    return found


def test_this_interpreter() -> None:
    found = _collect()
    assert (found["executable"], found["prefix"]) == (sys.executable, sys.prefix)
    assert found["version"] == ".".join(map(str, sys.version_info[:3]))
    assert found["gil"] is True
    assert found["platlib"] in found["path"]


def test_modules_that_lie_where_training_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "random.py").touch()
    (tmp_path / "datasets").mkdir()  # without __init__.py it hides nothing
    (tmp_path / "trl").mkdir()
    (tmp_path / "trl/__init__.py").touch()
    (tmp_path / "mine.py").touch()
    monkeypatch.chdir(tmp_path)
    assert _collect()["names"][str(tmp_path)] == ["random", "trl"]


@pytest.mark.parametrize(
    ("first", "interpreter"),
    [("#!/v/bin/python\n", "/v/bin/python"), ('#!"/a b/python"\n', "/a b/python"), ("MZ", "")],
)
def test_whose_pip_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, interpreter: str
) -> None:
    pip = tmp_path / "pip"
    pip.write_text(first)
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _collect()["pip"] == {"path": str(pip), "interpreter": interpreter}
    os.unlink(pip)
    assert _collect()["pip"] is False
