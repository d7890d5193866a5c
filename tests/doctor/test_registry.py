"""Checks in order, causes before what follows from them, and a crash that is a finding."""

from __future__ import annotations

import pytest

from ftlab_doctor import registry
from ftlab_doctor.finding import Finding, fail, ok
from ftlab_doctor.host import Host
from ftlab_doctor.registry import Check


def _raises(host: Host) -> Finding:
    raise KeyError("no such fact")


def _fails(host: Host) -> Finding:
    return fail("broken", fix="mend it")


def _well(host: Host) -> Finding:
    return ok("well")


def _checks(*items: Check) -> dict[str, Check]:
    return {item.id: item for item in items}


def test_a_check_that_raises_is_a_crash_and_the_others_go_on() -> None:
    checks = _checks(Check("a", "A?", _raises), Check("b", "B?", _well))
    first, second = registry.run(Host({}), checks=checks)
    assert (first.status, second.status) == ("crash", "ok")
    assert "KeyError" in first.title
    assert "test_registry.py" in first.observed


def test_a_failure_silences_what_follows_from_it_through_every_generation() -> None:
    checks = _checks(
        Check("child", "?", _fails, ("parent",)), Check("grandchild", "?", _fails, ("child",)), Check("parent", "?", _fails)
    )  # fmt: skip
    found = {f.id: f for f in registry.run(Host({}), checks=checks)}
    assert [f.status for f in found.values()] == ["fail", "skip", "skip"]
    assert {f.because for f in found.values()} == {"", "parent"}


def test_asking_for_one_check_runs_its_causes_but_shows_it_alone() -> None:
    checks = _checks(Check("a", "?", _fails), Check("b", "?", _fails, ("a",)))
    (only,) = registry.run(Host({}), ["b"], checks)
    assert (only.id, only.because) == ("b", "a")


def test_two_checks_of_one_name_are_a_mistake() -> None:
    registry.load()
    with pytest.raises(ValueError, match="two checks"):
        registry.add(Check("gpu.present", "?", _well))


def test_every_cause_that_is_named_exists() -> None:
    checks = registry.load()
    assert not [(c.id, name) for c in checks.values() for name in c.after if name not in checks]


def test_fixes_say_where_they_run() -> None:
    (found,) = registry.run(
        Host({"files": {"/.dockerenv": True}}), checks=_checks(Check("a", "?", _fails))
    )
    assert found.fix[0].where == "container"
