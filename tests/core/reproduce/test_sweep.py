"""What a sweep is made of: seeds, grid, names that depend on settings alone, and figures."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ftlab import config, events
from ftlab.errors import ConfigError
from ftlab.plan import Plan
from ftlab.reproduce import sweep
from ftlab.reproduce.sweep import Outcome, Task
from ftlab.run import Run
from ftlab.schema import RunConfig

BASE = "model: org/name\ndata: {source: rows.jsonl, eval_fraction: 0.1}\n"


def parsed(*overrides: str) -> RunConfig:
    return config.parse(BASE, overrides=overrides)


def done(seed: int, loss: float, point: sweep.Point = ()) -> Outcome:
    task = Task(point, seed, f"sweep-x-s{seed}", parsed(f"train.seed={seed}"), BASE)
    return Outcome(task, "done", {"loss": loss})


@pytest.mark.parametrize(
    ("text", "expected"),
    [("5", [7, 8, 9, 10, 11]), ("1,2,3", [1, 2, 3]), (" 4 , 2", [4, 2]), ("9,", [9]), ("1", [7])],
)
def test_seeds(text: str, expected: list[int]) -> None:
    assert sweep.from_base(sweep.seeds(text), 7) == expected


def test_seeds_from_the_largest_begin_again() -> None:
    assert sweep.from_base(3, sweep.LARGEST_SEED) == [sweep.LARGEST_SEED, 0, 1]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "takes a number"), ("five", "takes a number"), ("-1", "takes a number"),
        ("1,,2", "takes a number"), ("1.5", "takes a number"), (",", "takes a number"),
        ("0", "1 to 1000"), ("99999", "1 to 1000"), ("1,2,1", "twice"),
        (f"1,{2**32}", "at most 4294967295"), ("²", "takes a number"),
    ],
)  # fmt: skip
def test_seeds_that_are_none(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        sweep.seeds(text)


def test_a_grid_is_every_combination() -> None:
    points = sweep.grid(["optim.learning_rate=1e-4,2e-4", "adapter.r= 8, 16"])
    assert [sweep.overrides(point) for point in points] == [
        ["optim.learning_rate=0.0001", "adapter.r=8"],
        ["optim.learning_rate=0.0001", "adapter.r=16"],
        ["optim.learning_rate=0.0002", "adapter.r=8"],
        ["optim.learning_rate=0.0002", "adapter.r=16"],
    ]
    assert sweep.grid([]) == [()]


def test_values_may_be_lists_and_text() -> None:
    (one,), (two,) = sweep.grid(["adapter.target_modules=[q_proj, v_proj],all-linear"])
    assert one == ("adapter.target_modules", ["q_proj", "v_proj"])
    made = [parsed(*sweep.overrides((point,))) for point in (one, two)]
    assert made[0].adapter.target_modules == ["q_proj", "v_proj"]
    assert made[1].adapter.target_modules == "all-linear"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["optim.learning_rate"], "write --grid section"),
        (["optim.learning_rate="], "write --grid section"),
        (["=1,2"], "write --grid section"),
        (["train.seed=1,2"], "use --seeds"),
        (["adapter.r=8", "adapter.r=16"], "in the grid twice"),
        (["adapter.r=8,16,8"], "has a value twice"),
        (["adapter.r=[8"], "--grid adapter.r"),
    ],
)
def test_grids_that_are_none(options: list[str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        sweep.grid(options)


def test_all_problems_of_a_grid_at_once() -> None:
    with pytest.raises(ConfigError) as told:
        sweep.grid(["train.seed=1,2", "adapter.r", "adapter.r=1,1"])
    assert len(told.value.problems) == 3


def test_a_name_is_that_of_settings_and_seed() -> None:
    name = sweep.run_name("sweep", parsed())
    assert name.endswith("-s3407")
    assert sweep.run_name("sweep", parsed("train.seed=4")) == name.replace("-s3407", "-s4")
    same = ("train.log_every=9", "train.keep=7", "launch.where=docker", "memory.budget=3GiB")
    assert {sweep.run_name("sweep", parsed(change)) for change in same} == {name}
    for change in ("adapter.r=4", "data.source=other.jsonl", "model.name=org/other"):
        assert sweep.run_name("sweep", parsed(change)) != name


@pytest.mark.parametrize("prefix", ["../up", "", "a b", "x" * 95])
def test_a_prefix_that_is_no_name(prefix: str) -> None:
    with pytest.raises(ConfigError, match="--name"):
        sweep.run_name(prefix, parsed())


def test_something_must_be_measured() -> None:
    sweep.check_evaluated(parsed())
    with pytest.raises(ConfigError, match="compares evaluations"):
        sweep.check_evaluated(config.parse("model: a/b\ndata: rows.jsonl\n"))
    with pytest.raises(ConfigError, match="nothing to compare"):
        sweep.check_evaluated(parsed("train.eval_every=0", "train.samples=0"))


def test_a_run_of_other_data_is_not_taken(planned: Run, make_plan: Callable[..., Plan]) -> None:
    plan = make_plan()
    sweep.check_same(planned, plan)
    data = dataclasses.replace(plan.facts.data, sha256="e" * 64)
    model = dataclasses.replace(plan.facts.model, hashes={})
    facts = dataclasses.replace(plan.facts, data=data, model=model)
    with pytest.raises(ConfigError, match=r"before the model and the data changed"):
        sweep.check_same(planned, dataclasses.replace(plan, facts=facts))
    with pytest.raises(ConfigError, match="the number of steps"):
        sweep.check_same(planned, dataclasses.replace(plan, steps=9))


def test_only_figures_of_the_last_step_count(planned: Run) -> None:
    planned.write_status(dataclasses.replace(planned.status(), state="done", step=50))
    assert sweep.measured(planned) == {}
    with events.EventWriter(planned.events_path) as writer:
        writer.write("eval", step=25, loss=3.0)
        assert sweep.measured(planned) == {}
        writer.write("eval", step=50, loss=1.5, perplexity=4.5, tokens=9)
    assert sweep.measured(planned) == {"loss": 1.5, "perplexity": 4.5}


def test_a_task_without_a_run_is_absent(tmp_path: Path) -> None:
    assert sweep.outcome(done(1, 1.0).task, tmp_path).state == "absent"


def test_the_table_and_json() -> None:
    low, high = (("adapter.r", 8),), (("adapter.r", 16),)
    outcomes = [done(1, 1.0, low), done(2, 2.0, low), done(3, 3.0, low)]
    outcomes.append(dataclasses.replace(done(4, 0, low), state="failed", metrics={}))
    outcomes += [
        dataclasses.replace(done(1, 0, high), state="absent", metrics={}),
    ]
    assert list(sweep.rows(outcomes)) == [
        ("8", "loss", "3 of 4", "2", "1", "-0.484138 to 4.48414"),
        ("16", "-", "0 of 1", "-", "-", "-"),
    ]
    made = json.loads(json.dumps(sweep.to_json(outcomes)))
    assert (made["runs"], made["done"], made["failed"]) == (5, 3, 1)
    assert made["points"][0]["grid"] == {"adapter.r": 8}
    assert made["points"][0]["metrics"]["loss"]["mean"] == 2
    assert [run["state"] for run in made["points"][0]["runs"]] == ["done"] * 3 + ["failed"]
    assert made["points"][1]["metrics"] == {}
    assert list(sweep.rows([done(1, 1.0)])) == [("loss", "1 of 1", "1", "-", "-")]
