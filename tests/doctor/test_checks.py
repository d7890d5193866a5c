"""Every check, against ordinary hosts and against the corpus of failures with its healthy twins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import doctor_fixtures as fixtures
import pytest

from ftlab_doctor import registry, snapshot
from ftlab_doctor.finding import Finding
from ftlab_doctor.host import Host

CORPUS = fixtures.corpus()
# What is true of ordinary hosts and worth a warning.
TRUE = {"cpu-laptop": {"gpu.present"}, "ubuntu-v100": {"xformers.arch"}}


def _bad(findings: Iterable[Finding]) -> dict[str, str]:
    return {f.id: f.status for f in findings if f.status in ("fail", "warn", "crash")}


@lru_cache(maxsize=1024)
def _judged(index: int, twin: bool) -> tuple[Finding, ...]:
    """The findings of a row or of its twin, once for all tests."""
    row = CORPUS[index]
    if twin and not row.get("twin"):
        return _ordinary(row["base"])
    return tuple(registry.run(Host((_twin if twin else _broken)(row))))


@lru_cache(maxsize=64)
def _ordinary(name: str) -> tuple[Finding, ...]:
    """The findings of a host as it is, which is the twin of most rows."""
    return tuple(registry.run(Host(fixtures.host(name))))


def _broken(row: dict[str, Any]) -> dict[str, Any]:
    return fixtures.change(fixtures.host(row["base"]), row["break"])


def _twin(row: dict[str, Any]) -> dict[str, Any]:
    return fixtures.change(fixtures.host(row["base"]), row.get("twin", {}))


@pytest.mark.parametrize("name", fixtures.hosts())
def test_an_ordinary_host_raises_nothing_but_what_is_true(name: str) -> None:
    assert set(_bad(_ordinary(name))) == TRUE.get(name, set())


def test_there_are_ordinary_hosts_of_every_kind() -> None:
    assert len(fixtures.hosts()) >= 14


@pytest.mark.parametrize("index", range(len(CORPUS)), ids=lambda i: CORPUS[i]["name"])
def test_a_failure_is_found_and_is_the_only_red_line(index: int) -> None:
    row, findings = CORPUS[index], _judged(index, False)
    bad, wanted = _bad(findings), row["expect"]
    assert bad.get(wanted["id"]) == wanted["status"], bad
    found = next(f for f in findings if f.id == wanted["id"])
    assert row["fix"] in " ".join(fix.cmd for fix in found.fix)
    red = [name for name, status in bad.items() if status in ("fail", "crash")]
    assert red == ([wanted["id"]] if wanted["status"] == "fail" else [])


@pytest.mark.parametrize("index", range(len(CORPUS)), ids=lambda i: CORPUS[i]["name"])
def test_its_healthy_twin_raises_nothing(index: int) -> None:
    assert set(_bad(_judged(index, True))) <= TRUE.get(CORPUS[index]["base"], set())


@pytest.mark.parametrize("row", CORPUS, ids=lambda row: row["name"])
def test_every_fixture_follows_the_schema(row: dict[str, Any]) -> None:
    assert snapshot.check(_broken(row), snapshot.schema(), "") == []


def test_scoreboard(capsys: pytest.CaptureFixture[str]) -> None:
    """Rows, found, false alarms, milliseconds; printed with the tests."""
    found, alarms = 0, 0
    for index, row in enumerate(CORPUS):
        found += _bad(_judged(index, False)).get(row["expect"]["id"]) == row["expect"]["status"]
        alarms += len(set(_bad(_judged(index, True))) - TRUE.get(row["base"], set()))
    took = [sum(f.took_ms for f in _judged(i, False)) for i in range(len(CORPUS))]
    rows = {row["row"] for row in CORPUS} - {0}
    beyond = sum(row["row"] == 0 for row in CORPUS)
    with capsys.disabled():
        print(
            f"\ndoctor: {len(CORPUS)} fixtures ({len(rows)} rows of the corpus, {beyond} beyond it), "
            f"{found} found, {alarms} false alarms, {sum(took) / len(took):.1f} ms a host"
        )
    assert (found, alarms) == (len(CORPUS), 0)
    assert len(rows) >= 74
    assert len(CORPUS) >= 276


def test_every_check_passes_somewhere_and_fails_somewhere() -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    everything = [_ordinary(name) for name in fixtures.hosts()]
    everything += [_judged(i, twin) for i in range(len(CORPUS)) for twin in (False, True)]
    for findings in everything:
        for finding in findings:
            seen[finding.id].add(finding.status)
    checks = registry.load()
    never_bad = sorted(name for name in checks if not seen[name] & {"fail", "warn"})
    never_well = sorted(name for name in checks if "ok" not in seen[name])
    assert (never_bad, never_well) == (["gpu.precision"], [])  # it only tells
    assert len(checks) > 140
    assert not any("crash" in statuses for statuses in seen.values())


@pytest.mark.parametrize("missing", sorted(fixtures.host("ubuntu-t4")))
def test_a_missing_part_of_a_snapshot_is_no_crash_and_no_alarm(missing: str) -> None:
    facts = fixtures.host("ubuntu-t4")
    if missing in ("format", "version"):
        pytest.skip("a snapshot without it is refused")
    del facts[missing]
    statuses = {f.id: f.status for f in registry.run(Host(facts))}
    assert "crash" not in statuses.values()
    red = {name for name, status in statuses.items() if status == "fail"}
    assert red <= ({"driver.loaded"} if missing == "files" else set()), red


def test_an_empty_snapshot_is_unknown_not_well() -> None:
    findings = registry.run(Host({}))
    assert not any(f.status in ("crash", "fail") for f in findings)
    assert sum(f.status in ("unknown", "skip") for f in findings) > len(findings) / 2
