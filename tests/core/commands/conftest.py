"""A run of the fake trainer that is there to be reproduced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import manifest
from ftlab.facts import Facts
from ftlab.launch import local
from ftlab.plan import Plan
from ftlab.run import Run


@pytest.fixture
def original(
    runs_root: Path, resolve: Callable[..., Plan], make_facts: Callable[..., Facts],
    monkeypatch: pytest.MonkeyPatch, fake_trainer: Path,
) -> Run:  # fmt: skip
    """Done, sealed by us; a probe without a child."""
    run = Run.create(resolve(["train.max_steps=5"]), runs_root, "a")
    local.start(run)
    assert local.wait(run, 20) == "done"
    manifest.seal(run, {"state": "done", "step": 5})
    monkeypatch.setattr("ftlab.probe.collect", lambda config, **_: make_facts())
    return run
