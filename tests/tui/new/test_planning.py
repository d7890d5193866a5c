"""The plan beside the draft: when facts are found again, and whose answer counts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ftlab.errors import ConfigError, EnvironmentUnfit, FtlabError, Problem
from ftlab_tui.new import planning
from ftlab_tui.new.draft import Draft
from ftlab_tui.new.planning import Planner, key_of


@pytest.fixture
def draft() -> Draft:
    made = Draft()
    made.take({"model": {"name": "org/m"}, "data": {"source": "d.jsonl"}}, "none")
    return made


@pytest.fixture
def planner(tmp_path: Path, core: ModuleType) -> Planner:
    made = Planner(tmp_path)

    async def find(config: Any, runs_dir: Path) -> Any:
        return core.fake_facts()

    made.find = find
    return made


async def look(planner: Planner, draft: Draft) -> list[str]:
    """Look; what was told to be done meanwhile."""
    told: list[str] = []
    config, _ = draft.read()
    assert config is not None
    await planner.look(config, draft, lambda: told.append(planner.busy))
    return told


async def test_only_what_decides_the_facts_asks_for_them(planner: Planner, draft: Draft) -> None:
    assert planner.wants_look(draft)
    assert await look(planner, draft) == ["reading model and data ..."]
    assert not planner.wants_look(draft)
    draft.set("train.epochs", 7)
    assert not planner.stale(draft)
    planner.resolve(draft.read()[0])
    assert planner.plan is not None
    assert planner.plan.config.train.epochs == 7
    draft.set("data.source", "other.jsonl")
    assert planner.wants_look(draft)
    planner.resolve(None)
    assert planner.plan is None


@pytest.mark.parametrize(
    ("error", "failure", "gated"),
    [(EnvironmentUnfit("model 'org/m' is gated: accept"), True, True),
     (ConfigError([Problem("data.source", "org/d is gated on the hub")]), False, True),
     (FtlabError("no such thing"), True, False)],
)  # fmt: skip
async def test_what_failed_is_not_tried_again(
    planner: Planner, draft: Draft, error: FtlabError, failure: bool, gated: bool
) -> None:
    async def find(config: Any, runs_dir: Path) -> Any:
        raise error

    planner.find = find
    await look(planner, draft)
    assert planner.busy == planner.looking == ""
    assert bool(planner.failure) is failure
    assert bool(planner.problems) is not failure
    assert bool(planner.gated) is gated
    assert planner.failed == key_of(draft)
    assert not planner.wants_look(draft)


async def test_the_bundled_model_is_fetched_first(
    planner: Planner, draft: Draft, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fetched: list[bool] = []

    async def fetch() -> None:
        fetched.append(True)

    planner.fetch = fetch
    monkeypatch.setattr(planning, "location", lambda: tmp_path)
    monkeypatch.setattr(planning, "intact", lambda folder: False)
    draft.set("model.name", str(tmp_path))
    told = await look(planner, draft)
    assert fetched
    assert "fetching the bundled model" in told[0]


async def test_a_look_that_was_overtaken_leaves_the_later_one_alone(
    planner: Planner, draft: Draft, core: ModuleType
) -> None:
    go = asyncio.Event()

    async def slow(config: Any, runs_dir: Path) -> Any:
        await go.wait()
        raise FtlabError("overtaken")

    planner.find = slow
    first = asyncio.create_task(look(planner, draft))
    while not planner.looking:
        await asyncio.sleep(0)
    draft.set("model.name", "org/later")
    planner.looking = key_of(draft)
    planner.busy = "the later one"
    go.set()
    await first
    assert planner.looking == key_of(draft)
    assert planner.busy == "the later one"
