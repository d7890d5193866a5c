"""Disks: full, nearly full, without inodes, and not looked at."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'places': {'hf': {'free': 1000000000}}}, 'disk.models', 'fail', 'full'),
    ('ubuntu-t4', {'places': {'hf': {'free': 10000000000}}}, 'disk.models', 'warn', '10.0 GB'),
    ('ubuntu-t4', {'places': {'hf': None}}, 'disk.models', 'unknown', ''),
    ('ubuntu-t4', {'places': {'runs': {'free': 1000000000}}}, 'disk.runs', 'warn', ''),
    ('ubuntu-t4', {'places': {'tmp': {'free': 100000000}}}, 'disk.tmp', 'fail', ''),
    ('ubuntu-t4', {'places': {'home': {'inodes': 0, 'inodes_free': 0}}}, 'disk.inodes', 'ok', ''),
    ('ubuntu-t4', {'places': {'home': {'inodes_free': 5}}}, 'disk.inodes', 'fail', '5 of'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_disk(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
