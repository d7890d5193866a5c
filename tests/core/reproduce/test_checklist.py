"""A checklist's items over runs: groups by their settings, every run counted, nothing made up."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ftlab import events, ledger, manifest, trash
from ftlab.errors import ConfigError
from ftlab.plan import Plan
from ftlab.reproduce import bundle, checklist, unbundle
from ftlab.reproduce.checklist import Item, Table
from ftlab.run import Run

Make = Callable[..., Run]


@pytest.fixture
def make(runs_root: Path, resolve: Callable[..., Plan]) -> Make:
    """`make("a", 1.5, ["train.seed=1"])`: a run of an hour that is done and evaluated."""

    def run(
        name: str, loss: float | None = None, overrides: Sequence[str] = (), state: str = "done"
    ) -> Run:
        plan = resolve(["train.max_steps=5", "data.eval_fraction=0.1", *overrides], evaluation={})
        made = Run.create(plan, runs_root, name)
        lines = [{"kind": "started", "t": 1000.0, "step": 0}]
        if loss is not None:
            lines.append({"kind": "eval", "t": 4000.0, "step": 5, "loss": loss})
        lines.append({"kind": "finished", "t": 4600.0, "step": 5, "state": state})
        made.events_path.write_text("".join(json.dumps({"v": 1, **line}) + "\n" for line in lines))
        ledger.Ledger.open(made.ledger_path).close()
        manifest.seal(made, {"state": state, "step": 5})
        made.write_status(dataclasses.replace(made.status(), state=state, step=5))
        return made

    return run


def item(found: Sequence[Item], title: str) -> Item:
    return next(one for one in found if one.title == title)


def rows(one: Item) -> tuple[tuple[str, ...], ...]:
    return next(block for block in one.blocks if isinstance(block, Table)).rows


def text(one: Item) -> str:
    return " ".join(block for block in one.blocks if isinstance(block, str))


def seeds(make: Make, losses: Sequence[float], prefix: str = "r", *more: str) -> list[Run]:
    return [
        make(f"{prefix}{i}", loss, [f"train.seed={i}", *more]) for i, loss in enumerate(losses, 1)
    ]


def test_seeds_of_one_setting_are_one_result(make: Make, runs_root: Path) -> None:
    found = checklist.items(seeds(make, [1.0, 2.0, 3.0]), str(runs_root))
    results = item(found, "Results and error bars")
    assert results.answer == "Yes"
    assert rows(results) == (
        ("as above", "loss", "3", "1, 2, 3", "2", "1", "-0.484138 to 4.48414"),
    )
    assert [one.title for one in found if one.answer == checklist.AUTHORS] == [
        "Not in the registry"
    ]


def test_settings_that_differ_make_groups(make: Make, runs_root: Path) -> None:
    runs = seeds(make, [1.0, 2.0]) + seeds(make, [3.0, 5.0], "q", "adapter.r=4")
    found = checklist.items(runs, str(runs_root))
    labels = [row[0] for row in rows(item(found, "Results and error bars"))]
    assert labels == ["adapter.r=16", "adapter.r=4"]
    settings = {row[0] for row in rows(item(found, "Training details and hyperparameters"))}
    assert "adapter.r" not in settings
    assert "train.seed" not in settings
    assert "optim.learning_rate" in settings
    assert "method.beta" not in settings  # means nothing without preference data


def test_one_seed_has_no_error_bar(make: Make, runs_root: Path) -> None:
    results = item(checklist.items([make("a", 1.5)], str(runs_root)), "Results and error bars")
    assert results.answer == "No"
    assert rows(results)[0][4:] == ("1.5", "-", "-")
    assert "`ftrun sweep`" in text(results)


def test_a_run_without_evaluation_is_said(make: Make, runs_root: Path) -> None:
    results = item(checklist.items([make("a")], str(runs_root)), "Results and error bars")
    assert (results.answer, rows(results)[0][1]) == ("No", "not evaluated")


def test_every_run_counts_with_its_time(make: Make, runs_root: Path, tmp_path: Path) -> None:
    reported = seeds(make, [1.0, 2.0])
    make("broken", state="failed")
    make("cut", state="stopped")
    trash.discard(make("thrown", 1.0))
    other = tmp_path / "elsewhere"
    path = bundle.write(reported[0], tmp_path / "b.tar").path
    elsewhere, _ = unbundle.unpack(path, other)
    found = checklist.items([*reported], str(runs_root))
    assert rows(item(found, "Number of runs")) == (("done", "3"), ("failed", "1"), ("stopped", "1"))
    assert "made: 5; of them reported: 2, thrown away but counted: 1" in text(
        item(found, "Number of runs")
    )
    assert "in 5.00 hours of wall time" in text(item(found, "Compute"))
    assert checklist.effort([elsewhere], str(runs_root)).runs == 6
    assert checklist.effort([elsewhere], str(runs_root)).bundled == 1


def test_gpu_hours(make: Make, runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_gpus", lambda plan: 2)
    run = make("a", 1.0)
    assert manifest.spent(run) == (3600.0, 2.0)
    told = item(checklist.items([run], str(runs_root)), "Compute")
    assert rows(told)[0][3:] == ("1:00:00", "2.00", "not measured")
    assert "GPU-hours of the reported runs: 2.00" in text(told)


def test_model_data_command_and_software(make: Make, runs_root: Path) -> None:
    run = make("a", 1.0)
    found = checklist.items([run], str(runs_root))
    model = rows(item(found, "Models and their size"))[0]
    assert model[0] == "some/model"
    assert int(model[4].replace(",", "")) > 0
    uses = [row[0] for row in rows(item(found, "Data and splits"))]
    assert uses == ["training", "evaluation"]
    code = [b for b in item(found, "Exact commands").blocks if isinstance(b, checklist.Code)]
    assert code[0].lines == (f"ftrun train {run.config_path}",)
    assert code[1].lines == ("ftrun reproduce a",)
    assert "version.torch" in dict(rows(item(found, "Software")))


def test_what_cannot_be_reported(make: Make, runs_root: Path) -> None:
    run = make("a", 1.0)
    with pytest.raises(ConfigError, match="named twice"):
        checklist.items([run, run], str(runs_root))
    with pytest.raises(ConfigError, match="a seed is there twice in a, again"):
        checklist.items([run, make("again", 1.0)], str(runs_root))
    with pytest.raises(ConfigError, match="is failed"):
        checklist.items([make("broken", state="failed")], str(runs_root))


def test_damaged_runs_are_counted_too(make: Make, runs_root: Path) -> None:
    run, broken = make("a", 1.0), make("broken", state="failed")
    broken.plan_path.write_text("{}")
    shutil.rmtree(broken.checkpoints_dir)
    assert manifest.spent(broken) == (3600.0, 0.0)
    assert checklist.effort([run], str(runs_root)).runs == 2


def test_a_description_of_another_version(make: Make, runs_root: Path) -> None:
    run = make("a", 1.0)
    plan: dict[str, Any] = json.loads(run.plan_path.read_text())
    plan["facts"]["model"]["spec"] = {}
    run.plan_path.write_text(json.dumps(plan))
    found = checklist.items([run], str(runs_root))
    assert rows(item(found, "Models and their size"))[0][4] == "unknown"


def test_a_run_that_was_killed_is_paid_for(planned: Run) -> None:
    with events.EventWriter(planned.events_path) as writer:
        writer.write("started", step=0)
    first = json.loads(planned.events_path.read_text())["t"]
    with planned.events_path.open("a") as file:
        for kind, later in (("step", 60.0), ("started", 100.0), ("step", 130.0)):
            file.write(json.dumps({"v": 1, "t": first + later, "kind": kind, "step": 1}) + "\n")
    assert manifest.spent(planned)[0] == pytest.approx(90.0)
