"""Drivers older and newer than the card, and their own words."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('rtx5090', {}, 'driver.branch', 'ok', ''),
    ('rtx5090', {'files': {'/sys/module/nvidia/version': '565.10\n'}, 'nvml': {'driver': '565.10'}}, 'driver.branch', 'ok', '565'),
    ('rtx5090', {'files': {'/sys/module/nvidia/version': '565.10\n'}, 'nvml': {'driver': '565.10', 'gpus': []}, 'cuda': {'devices': None}}, 'driver.branch', 'fail', '570'),
    ('dgx-spark', {'files': {'/sys/module/nvidia/version': '575.1\n'}, 'nvml': {'driver': '575.1', 'gpus': []}, 'cuda': {'devices': None}}, 'driver.branch', 'fail', '580'),
    ('cpu-laptop', {}, 'driver.note', 'skip', ''),
    ('ubuntu-t4', {'commands': {'dmesg': {'out': 'NVRM: GPU 0000:01:00.0: RmInitAdapter failed!'}}}, 'driver.note', 'warn', 'once'),
    ('ubuntu-t4', {'nvml': {'gpus': []}, 'cuda': {'devices': None}, 'commands': {'dmesg': {'out': 'NVRM: The NVIDIA GPU is supported through the NVIDIA 470.xx Legacy drivers.'}}}, 'driver.note', 'fail', 'does not support'),
    ('ubuntu-t4', {'commands': {'dmesg': {'rc': 1}}}, 'driver.note', 'unknown', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_driver_and_its_card(
    name: str, patch: dict[str, Any], check: str, status: str, words: str
) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
