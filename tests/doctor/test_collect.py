"""All collectors together: one that fails is told and leaves the others their facts."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab_doctor import collect, snapshot
from ftlab_doctor.collect import places


def test_a_collector_that_fails_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(facts: dict[str, Any]) -> None:
        raise RuntimeError("no such folder")

    monkeypatch.setattr(places, "collect", broken)
    facts = collect.collect()
    (fault,) = facts["faults"]
    assert fault.endswith("test_collect: RuntimeError: no such folder")
    assert "places" not in facts
    assert {"system", "env", "files", "python", "packages", "elf", "commands"} <= facts.keys()
    assert snapshot.check(facts, snapshot.schema(), "") == []
