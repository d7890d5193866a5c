"""The manifest says what did happen over every attempt; exit.json how it ended."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import atomic, ledger, manifest
from ftlab.errors import EnvironmentUnfit, FtlabError
from ftlab.facts import to_json
from ftlab.plan import Plan
from ftlab.run import Run


def write_events(run: Run, *events: dict[str, Any]) -> None:
    lines = [json.dumps({"v": 1, **event}) for event in events]
    run.events_path.write_text("\n".join(lines) + '\nnot json\n[1]\n{"kind":"step"}\n{"torn')


ATTEMPTS = (
    {"t": 50, "kind": "warning", "message": "before any start"},
    {"t": 100, "kind": "started", "step": 0, "resumed_from": None},
    {"t": 110, "kind": "step", "step": 7},
    {"t": 500, "kind": "started", "step": 5, "resumed_from": 5},
    {"t": 520, "kind": "step", "step": 50},
    {"t": 530, "kind": "finished", "step": 50, "state": "done"},
)


def test_seal_tells_attempts_cost_and_outputs(planned: Run) -> None:
    write_events(planned, *ATTEMPTS)
    adapter = planned.export_dir / "adapter" / "adapter_model.safetensors"
    adapter.parent.mkdir()
    adapter.write_bytes(b"weights")
    planned.samples_path.write_text("{}\n")
    with ledger.Ledger.open(planned.ledger_path) as book:
        book.append(step=1, loss=1, grad_norm=1, lr=1, trained_tokens=1, batch_hash=1)
    made = manifest.seal(
        planned,
        {
            "state": "done", "step": 50, "outputs": ["samples.jsonl"], "energy_joules": 12.5,
            "metrics": {"eval_loss": 1.5, "bad": float("nan")},
        },
    )  # fmt: skip
    kept = manifest.read(planned)
    assert kept == json.loads(json.dumps(atomic.plain(made)))
    assert kept is not None
    assert [(a["seconds"], a["step"], a["state"]) for a in kept["attempts"]] == [
        (10, 7, "lost"),
        (30, 50, "done"),
    ]
    assert (kept["resumes"], kept["wall_seconds"], kept["gpu_hours"]) == (1, 40, 0)
    assert kept["attempts"][1]["resumed_from"] == 5
    assert (kept["energy"], kept["energy_joules"]) == ({"2": 12.5}, None)
    assert kept["outputs"] == {
        "export/adapter/adapter_model.safetensors": {
            "bytes": 7,
            "sha256": hashlib.sha256(b"weights").hexdigest(),
        },
        "samples.jsonl": {"bytes": 3, "sha256": hashlib.sha256(b"{}\n").hexdigest()},
    }
    assert kept["ledger"] == {"sha256": ledger.digest(planned.ledger_path), "records": 1}
    assert kept["result"] == {"metrics": {"eval_loss": 1.5, "bad": None}}
    assert kept["identity"]["seed"] == {"value": 3407, "class": "numerics"}
    assert planned.exit() == {"version": 1, "code": 0, "state": "done", "reason": "", "step": 50}


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ({"state": "stopped"}, 130),
        ({"state": "failed", "reason": "loss is nan"}, 1),
        ({"state": "failed", "code": 3}, 3),
    ],
)
def test_exit_codes(planned: Run, result: dict[str, Any], code: int) -> None:
    manifest.seal(planned, result)
    assert planned.exit() == {
        "version": 1, "code": code, "state": result["state"], "reason": result.get("reason", ""),
        "step": 0,
    }  # fmt: skip
    kept = manifest.read(planned) or {}
    assert (kept["attempts"], kept["ledger"], kept["outputs"]) == ([], None, {})


def test_gpu_hours_and_energy_add_up(planned: Run, make_plan: Callable[..., Plan]) -> None:
    plan = make_plan()
    launch = dataclasses.replace(plan.config.launch, devices=[0, 1])
    config = dataclasses.replace(plan.config, launch=launch)
    atomic.write_json(planned.plan_path, to_json(dataclasses.replace(plan, config=config)))
    write_events(planned, *ATTEMPTS[:3])
    manifest.seal(planned, {"state": "stopped", "energy_joules": 10})
    write_events(planned, *ATTEMPTS)
    kept = manifest.seal(planned, {"state": "done", "energy_joules": 5})
    assert kept["energy_joules"] == 15
    assert kept["gpu_hours"] == pytest.approx(40 / 3600 * 2)


def test_what_changed_between_attempts_is_kept(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    manifest.begin(planned)
    running = manifest.read(planned) or {}
    assert (running["state"], running["changes"]) == ("running", [])
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    manifest.begin(planned, {"machine": {"driver": "600.0"}})
    atomic.write_json(planned.data_dir / "index.json", {"sha256": "5" * 64})  # learnt, not changed
    kept = manifest.seal(planned, {"state": "done", "machine": {"driver": "600.0"}})
    assert len(kept["changes"]) == 1
    assert kept["changes"][0]["fields"] == {
        "environment.OMP_NUM_THREADS": {"before": "1", "now": "2", "class": "bits"},
        "driver": {"before": "550.1", "now": "600.0", "class": "none"},
    }
    assert kept["identity"]["data.stream_sha256"]["value"] == "5" * 64


@pytest.mark.parametrize("text", ["{", "[]", '{"identity": 3, "changes": null, "energy": []}'])
def test_damaged_and_foreign_manifests_do_no_harm(planned: Run, text: str) -> None:
    planned.manifest_path.write_text(text)
    manifest.begin(planned)
    assert manifest.seal(planned, {"state": "done"})["changes"] == []


def test_faults_are_one_clear_error(planned: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert manifest.read(planned) is None
    manifest.begin(planned)
    before = planned.manifest_path.read_bytes()
    real = os.replace

    def full(source: Path, target: Path) -> None:
        if target == planned.manifest_path:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        manifest.seal(planned, {"state": "done"})
    monkeypatch.undo()
    assert planned.manifest_path.read_bytes() == before
    assert (planned.exit() or {})["state"] == "done"  # that much was said all the same
    with pytest.raises(FtlabError, match="deleted or moved"):
        manifest.file_sha256(planned.path / "gone")
    planned.events_path.mkdir()
    with pytest.raises(FtlabError, match="cannot access"):
        manifest.seal(planned, {"state": "done"})
