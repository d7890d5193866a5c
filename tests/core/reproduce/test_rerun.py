"""The same config again: every choice as it was, places may move, nothing else may."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from ftlab import atomic
from ftlab.errors import ConfigError, DataError, EnvironmentUnfit, FtlabError
from ftlab.facts import Facts
from ftlab.plan import Plan, to_json
from ftlab.reproduce import rerun
from ftlab.run import Run
from ftlab.schema import RunConfig

Finish = Callable[..., Run]


def test_choices_are_kept_and_the_budget_is_this_machines(planned: Run) -> None:
    was = planned.plan().config
    asked = rerun.config_again(planned)
    assert asked.memory.budget == "auto"
    assert asked.launch.devices == []
    assert dataclasses.replace(asked, memory=was.memory) == was


def test_places_may_move(planned: Run) -> None:
    asked = rerun.config_again(planned, ["model.name=/else/model", "train.keep=5"], "docker")
    assert (asked.model.name, asked.train.keep, asked.launch.where) == ("/else/model", 5, "docker")
    assert asked.data.source == "rows.jsonl"


@pytest.mark.parametrize("override", ["train.seed=1", "optim.learning_rate=1", "nothing=1"])
def test_what_would_be_another_run_is_refused(planned: Run, override: str) -> None:
    with pytest.raises(ConfigError, match="another run"):
        rerun.config_again(planned, [override])


def test_a_wrong_value_is_refused(planned: Run) -> None:
    with pytest.raises(ConfigError, match="keep"):
        rerun.config_again(planned, ["train.keep=0"])


@pytest.mark.parametrize(("had", "processes", "asked"), [([1, 3], 1, 2), ([], 2, [])])
def test_a_run_on_several_takes_as_many(
    planned: Run, make_plan: Callable[..., Plan], had: list[int], processes: int, asked: object
) -> None:
    plan = make_plan()
    launch = dataclasses.replace(plan.config.launch, devices=had, processes=processes)
    config = dataclasses.replace(plan.config, launch=launch)
    atomic.write_json(planned.plan_path, to_json(dataclasses.replace(plan, config=config)))
    again = rerun.config_again(planned).launch
    assert (again.devices, again.processes) == (asked, processes)


def test_a_run_on_a_gpu_takes_the_one_that_is_here(
    planned: Run, make_plan: Callable[..., Plan]
) -> None:
    plan = make_plan()
    launch = dataclasses.replace(plan.config.launch, devices=[3], image=None)
    config = dataclasses.replace(plan.config, launch=launch)
    atomic.write_json(planned.plan_path, to_json(dataclasses.replace(plan, config=config)))
    assert rerun.config_again(planned).launch.devices == "auto"


def test_threads_are_the_originals(
    resolve: Callable[..., Plan], make_facts: Callable[..., Facts], runs_root: Run
) -> None:
    original = Run.create(resolve(machine={"threads": 7}), runs_root, "a")
    asked = rerun.config_again(original)

    def collect(config: RunConfig) -> Facts:
        assert config == asked
        return make_facts()

    plan = rerun.plan_again(original, asked, collect)
    assert plan.facts.machine.threads == 7
    assert plan.hash == original.plan().hash


def test_hopeless_before_a_step(make_run: Finish, make_plan: Callable[..., Plan]) -> None:
    original, plan = make_run("a"), make_plan(5)
    assert rerun.hopeless(original, plan) is None
    data = dataclasses.replace(plan.facts.data, sha256="e" * 64)
    other = dataclasses.replace(plan, facts=dataclasses.replace(plan.facts, data=data))
    found = rerun.hopeless(original, other)
    assert found is not None
    assert [f.name for f in found.of_class("numerics")] == ["data.store_sha256"]


def test_code_of_a_stranger_is_asked_for(planned: Run) -> None:
    asked = rerun.config_again(planned)
    rerun.check_foreign(asked, [], None)
    trusting = dataclasses.replace(
        asked, model=dataclasses.replace(asked.model, trust_remote_code=True)
    )
    with pytest.raises(ConfigError, match="would run code that comes with its model"):
        rerun.check_foreign(trusting, ["model.name=/m"], None)
    rerun.check_foreign(trusting, ["model.trust_remote_code=true"], None)
    contained = rerun.config_again(planned, [], "docker")
    with pytest.raises(ConfigError, match="--in local runs without one"):
        rerun.check_foreign(contained, [], None)
    rerun.check_foreign(contained, [], "docker")


@pytest.mark.parametrize("kind", [ConfigError, DataError, EnvironmentUnfit])
def test_what_the_original_had_is_named(planned: Run, kind: type[FtlabError]) -> None:
    with pytest.raises(kind, match="it is not here") as told, rerun.naming_needs(planned):
        raise kind("it is not here")
    assert type(told.value) is kind
    assert "model org/SmolLM2-135M-Instruct (weights sha256 wwwwwwwwwwww)" in str(told.value)
    assert "data rows.jsonl (tokens sha256 dddddddddddd)" in str(told.value)
