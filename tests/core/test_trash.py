"""The trash: a run goes there in one rename, comes back, or is gone for good."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pytest

from ftlab import trash
from ftlab.errors import ConfigError, FtlabError, RunBusy
from ftlab.process import Identity, monotonic
from ftlab.run import Run


def test_a_run_goes_and_comes_back(planned: Run, runs_root: Path) -> None:
    (planned.checkpoints_dir / "big").write_bytes(b"x" * 5000)
    assert trash.size(planned.path) > 5000
    item = trash.discard(planned)
    assert Run.all(runs_root) == []
    assert trash.contents(runs_root) == [item]
    assert (item.path / "checkpoints" / "big").is_file()
    assert trash.restore(item) == planned
    assert [run.id for run in Run.all(runs_root)] == [planned.id]
    assert trash.contents(runs_root) == []


def test_a_live_run_is_refused(planned: Run) -> None:
    alive = dataclasses.replace(
        planned.status(), **Identity.mine().to_dict(), state="running",
        heartbeat=time.time(), monotonic=monotonic(),
    )  # fmt: skip
    planned.write_status(alive)
    with pytest.raises(RunBusy, match="stop it first"):
        trash.discard(planned)


def test_a_locked_run_is_refused(planned: Run) -> None:
    with planned.lock(), pytest.raises(RunBusy):
        trash.discard(planned)
    assert planned.path.is_dir()


def test_the_same_name_twice(planned: Run, runs_root: Path) -> None:
    first = trash.discard(planned)
    again = runs_root / planned.id
    again.mkdir()
    (again / "plan.json").write_text("{}")
    second = trash.discard(Run(again))
    assert {item.path for item in trash.contents(runs_root)} == {first.path, second.path}
    trash.restore(first)
    with pytest.raises(ConfigError, match="exists"):
        trash.restore(second)
    with pytest.raises(FtlabError, match="gone"):
        trash.restore(dataclasses.replace(first, id="other"))


def test_the_trash_is_emptied(planned: Run, runs_root: Path) -> None:
    bytes_of_it = trash.size(planned.path)
    trash.discard(planned)
    assert trash.empty(runs_root) >= bytes_of_it
    assert trash.contents(runs_root) == []
    assert trash.contents(runs_root / "nowhere") == []
