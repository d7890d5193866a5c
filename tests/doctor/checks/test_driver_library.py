"""libcuda and NVML: found elsewhere, refused, of a number that nobody knows."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'cuda': {'died': -11, 'error': ''}}, 'driver.library', 'fail', 'ends the process'),
    ('ubuntu-t4', {'cuda': {'missing': 'no', 'path': None}}, 'driver.library', 'fail', 'cannot find libcuda'),
    ('ubuntu-t4', {'cuda': {'init': 12345}}, 'driver.start', 'fail', 'does not know'),
    ('ubuntu-t4', {'nvml': {'rc': 4, 'error': 'Insufficient Permissions'}}, 'driver.nvml', 'fail', 'refuses'),
    ('ubuntu-t4', {'nvml': {'rc': 9, 'error': 'Driver Not Loaded'}}, 'driver.nvml', 'fail', 'does not start'),
    ('ubuntu-t4', {'builds': {'torch': {'cuda': '19.0'}}}, 'driver.cuda', 'unknown', '19.0'),
    ('cpu-laptop', {}, 'driver.cuda', 'skip', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_driver_library(
    name: str, patch: dict[str, Any], check: str, status: str, words: str
) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
