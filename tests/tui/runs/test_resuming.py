"""What is said before a run is gone on with."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from ftlab import versions
from ftlab.run import Run
from ftlab_tui.runs import resuming


def test_what_is_restored(make_run: Callable[..., Run]) -> None:
    found = resuming.consider(make_run("r", 50))
    assert found.possible
    for words in ("step-00000040", "step 40 of 200", "The 10 steps after it"):
        assert words in found.detail
    assert "begins anew" in resuming.consider(make_run("few", 5)).detail
    assert "never started" in resuming.consider(make_run("new", 0, state="planned")).detail


def test_why_it_cannot_be(make_run: Callable[..., Run]) -> None:
    assert "is running" in resuming.consider(make_run("a", live=True)).detail
    assert "is done" in resuming.consider(make_run("b", state="done")).detail
    damaged = make_run("c")
    damaged.plan_path.write_text("[]")
    found = resuming.consider(damaged)
    assert not found.possible
    assert "cannot be carried out" in found.detail


def test_changed_versions_are_named(
    make_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run("r")
    identity = {"version.torch": {"value": "2.4.1", "class": "bits"},
                "version.peft": {"value": "0.1", "class": "bits"}}  # fmt: skip
    run.manifest_path.write_text(json.dumps({"identity": identity}))
    monkeypatch.setattr(versions, "installed", lambda: {"torch": "2.10", "peft": "0.1"})
    assert resuming.changes(run) == ["torch 2.4.1 → 2.10"]
    assert "torch 2.4.1 → 2.10" in resuming.consider(run).detail
