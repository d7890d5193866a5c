"""What was lent: processors, processes, addresses."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'system': {'cores': None}}, 'platform.cores', 'unknown', ''),
    ('cpu-laptop', {'system': {'cores': 1}}, 'platform.cores', 'ok', 'no GPU'),
    ('ubuntu-t4', {'system': {'cores': 1}}, 'platform.cores', 'warn', '1 processor:'),
    ('ubuntu-t4', {'system': {'cores': 8, 'cgroup': {'cpu': 2500}}}, 'platform.cores', 'ok', '2.5 of 8'),
    ('ubuntu-t4', {'system': {'cores': 8, 'cgroup': {'cpu': 16000}}}, 'platform.cores', 'ok', '8 processors'),
    ('ubuntu-t4', {'system': {'cgroup': {'pids': 511}}}, 'platform.processes', 'warn', '511'),
    ('ubuntu-t4', {'system': {'cgroup': {'pids': 512}}}, 'platform.processes', 'ok', '512'),
    ('cpu-laptop', {'files': {'/proc/sys/vm/overcommit_memory': '2'}}, 'platform.overcommit', 'warn', 'reserved'),
    ('ubuntu-t4', {'files': {'/proc/sys/vm/overcommit_memory': '1\n'}}, 'platform.overcommit', 'ok', '1'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_quota(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
