"""A card that is lost, hidden, cut, broken, hot or full."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'env': {'CUDA_VISIBLE_DEVICES': 'all'}}, 'gpu.visible', 'fail', 'hides every GPU'),
    ('rtx4090-pair', {'env': {'CUDA_VISIBLE_DEVICES': '0, 1'}}, 'gpu.visible', 'ok', ''),
    ('rtx4090-pair', {'env': {'CUDA_VISIBLE_DEVICES': '1,7'}}, 'gpu.visible', 'fail', 'names 7'),
    ('ubuntu-t4', {'gpus': {'throttle': 4}}, 'gpu.throttle', 'ok', ''),
    ('ubuntu-t4', {'gpus': {'throttle': 64, 'temperature': 95}}, 'gpu.throttle', 'warn', '95'),
    ('ubuntu-t4', {'gpus': {'compute_mode': 3, 'processes': []}}, 'gpu.mode', 'ok', ''),
    ('ubuntu-t4', {'gpus': {'compute_mode': 3, 'processes': [{'pid': 1, 'used': None}]}}, 'gpu.mode', 'fail', 'exclusive'),
    ('ubuntu-t4', {'gpus': {'mig': [0, 1]}}, 'gpu.mig', 'warn', 'reset'),
    ('dgx-spark', {}, 'gpu.memory', 'ok', ''),
    ('dgx-spark', {}, 'gpu.ecc', 'skip', ''),
    ('ubuntu-t4', {'gpus': {'remapped': {'pending': 1, 'failed': 0}}}, 'gpu.ecc', 'warn', 'wait'),
    ('ubuntu-t4', {'commands': {'dmesg': {'out': 'NVRM: Xid (PCI:0000:01:00): 31, pid=1'}}}, 'gpu.xid', 'ok', 'none grave'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_card(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
