"""A container has a network only where something has to be fetched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftlab.plan import Plan

Resolve = Callable[..., Plan]
DOCKER = "launch.where=docker"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [("/models/tiny", "none", "on this machine"), ("org/tiny", "bridge", "come from the hub")],
)
def test_the_network_follows_the_model(resolve: Resolve, path: str, value: str, told: str) -> None:
    made = resolve([DOCKER], path=path)
    assert made.config.launch.network == made.decisions["launch.network"].value == value
    assert told in made.decisions["launch.network"].reason


@pytest.mark.parametrize("overrides", [[], [DOCKER, "launch.network=host"]])
def test_what_is_asked_or_unused_stays(resolve: Resolve, overrides: list[Any]) -> None:
    made = resolve(overrides)
    assert "launch.network" not in made.decisions
    assert made.config.launch.network == ("host" if overrides else "auto")
