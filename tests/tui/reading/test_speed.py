"""MFU from a plan and a step's figures, and its absence told in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from ftlab.schema import LaunchSection
from ftlab_tui.reading import speed

CORE = Path(__file__).parents[2] / "core"


@pytest.fixture
def plan(load: Callable[[Path], ModuleType]) -> Any:
    """A plan with a model that is described, on the H100 of the fake machine."""
    core = load(CORE / "conftest.py")
    made, facts = core.fake_plan(), core.fake_facts()
    config = dataclasses.replace(made.config, launch=LaunchSection(devices=[0]))
    return dataclasses.replace(
        made, config=config, facts=dataclasses.replace(made.facts, model=facts.model)
    )


def test_a_share_of_a_peak(plan: Any) -> None:
    known = speed.of(plan)
    assert known is not None
    assert "H100" in known.against
    share = known.mfu({"tokens": 4096, "trained_tokens": 4096, "seconds": 0.1})
    assert share is not None
    assert 0 < share < 1
    double = known.mfu({"tokens": 4096, "trained_tokens": 4096, "seconds": 0.05})
    assert double == pytest.approx(2 * share)


@pytest.mark.parametrize("step", [{}, {"tokens": 0, "seconds": 1}, {"tokens": 9, "seconds": "x"}])
def test_no_figures_no_share(plan: Any, step: dict[str, Any]) -> None:
    known = speed.of(plan)
    assert known is not None
    assert known.mfu(step) is None


def test_without_a_gpu_or_a_plan(load: Callable[[Path], ModuleType], plan: Any) -> None:
    config = dataclasses.replace(plan.config, launch=LaunchSection(devices=[]))
    known = speed.of(dataclasses.replace(plan, config=config))
    assert known is not None
    assert known.mfu({"tokens": 4096, "seconds": 0.1}) is None
    assert "no GPU" in known.against
    assert speed.of(None) is None


def test_several_gpus_have_a_joint_peak(plan: Any) -> None:
    one = speed.of(plan)
    gpu = plan.facts.machine.gpus[0]
    machine = dataclasses.replace(plan.facts.machine, gpus=(gpu, dataclasses.replace(gpu, index=1)))
    config = dataclasses.replace(plan.config, launch=LaunchSection(devices=[0, 1]))
    two = dataclasses.replace(
        plan, config=config, facts=dataclasses.replace(plan.facts, machine=machine)
    )
    assert [card.index for card in speed.cards_of(two)] == [0, 1]
    both = speed.of(two)
    assert one is not None
    assert both is not None
    assert both.peak == 2 * (one.peak or 0)
    assert "2 x NVIDIA H100" in both.against
