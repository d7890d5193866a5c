"""The kernel's part of the driver: barred, built for another kernel, closed to this user."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('cpu-laptop', {}, 'driver.loaded', 'skip', ''),
    ('cpu-laptop', {'pci': [{'vendor': '0x1002', 'class': '0x030000'}]}, 'gpu.present', 'warn', 'AMD'),
    ('ubuntu-t4', {'pci': None, 'nvml': None, 'cuda': None, 'devices': None, 'listings': None}, 'gpu.present', 'unknown', ''),
    ('ubuntu-t4', {'files': {'modprobe nvidia': '/etc/modprobe.d/a.conf: blacklist nvidia'}}, 'driver.loaded', 'ok', '535'),
    ('ubuntu-t4', {'devices': {'/dev/nvidia0': {'open': 'EIO'}}}, 'driver.nodes', 'fail', 'EIO'),
    ('ubuntu-t4', {'devices': {'/dev/nvidia0': {'open': 'EACCES'}}}, 'driver.nodes', 'fail', 'may not open'),
    ('wsl2-rtx3060', {}, 'driver.nodes', 'skip', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_the_driver(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
