"""Two runs that are done, made without a trainer, and ways to let them differ."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import ledger, manifest
from ftlab.run import Run

Finish = Callable[..., Run]
STEPS = 5


def finish(run: Run, losses: dict[int, float] | None = None, weights: bytes = b"w") -> Run:
    """Give a planned run a ledger, a result and a sealed manifest."""
    adapter = run.export_dir / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(weights)
    place = {"base_model_name_or_path": str(run.path), "r": 16}
    (adapter / "adapter_config.json").write_text(json.dumps(place))
    with ledger.Ledger.open(run.ledger_path) as book:
        for step in range(1, STEPS + 1):
            loss = (losses or {}).get(step, 1 / step)
            book.append(
                step=step, loss=loss, grad_norm=1, lr=1e-3, trained_tokens=9, batch_hash=step
            )
    manifest.seal(run, {"state": "done", "step": STEPS})
    run.write_status(dataclasses.replace(run.status(), state="done", step=STEPS))
    return run


def change(run: Run, name: str, value: Any, kind: str = "numerics") -> Run:
    """Let a field of a sealed manifest be another."""
    made = json.loads(run.manifest_path.read_text())
    made["identity"][name] = {"value": value, "class": kind}
    run.manifest_path.write_text(json.dumps(made))
    return run


@pytest.fixture
def make_run(runs_root: Path, make_plan: Callable[..., Any]) -> Finish:
    """`make_run("a", losses={3: 0.5}, weights=b"x")`: a run that is done."""
    return lambda name, **options: finish(Run.create(make_plan(STEPS), runs_root, name), **options)


@pytest.fixture
def make_change() -> Callable[..., Run]:
    """The changer of a field, see `change`."""
    return change
