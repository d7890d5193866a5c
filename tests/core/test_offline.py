"""One answer to whether the hub may be asked, in the words of the hub's own library."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from ftlab.launch import docker_spec
from ftlab.offline import VARIABLES, is_offline, switch


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_nothing_set_is_online() -> None:
    assert not is_offline()
    assert is_offline(True)
    assert switch() == ""


@pytest.mark.parametrize("name", VARIABLES)
@pytest.mark.parametrize(("value", "expected"), [
    ("1", True), ("on", True), ("Yes", True), ("TRUE", True), ("0", False), ("", False),
    ("off", False),
])  # fmt: skip
def test_every_variable_and_word(
    name: str, value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    assert is_offline() is expected
    assert switch() == (name if expected else "")


@pytest.mark.parametrize("name", VARIABLES)
def test_a_container_is_asked_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config: Any = SimpleNamespace(launch=SimpleNamespace(network="auto"))
    assert docker_spec.network(config, local=False) == "bridge"
    monkeypatch.setenv(name, "yes")
    assert docker_spec.network(config, local=False) == "none"
    assert name in docker_spec.PASSED


def test_the_libraries_know_these_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    known: Callable[[str], bool] = constants._is_true
    assert all(known(word) for word in ("1", "ON", "YES", "TRUE"))
