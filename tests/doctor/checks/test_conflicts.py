"""Demands of metadata, and pairs that metadata does not know."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'packages': {'rich': {'requires': ['nothing-of-the-kind>=1']}}}, 'conflict.metadata', 'warn', 'missing'),
    ('ubuntu-t4', {'packages': {'rich': {'requires': ["nothing; python_version < '3'", "x; extra == 'y'", '@@@']}}}, 'conflict.metadata', 'ok', ''),
    ('ubuntu-t4', {'packages': {'trl': {'requires': ['torch>=99']}}}, 'conflict.metadata', 'fail', 'torch>=99'),
    ('ubuntu-t4', {'packages': {'numpy': {'tags': ['cp310-cp310-manylinux_2_17_x86_64']}}}, 'conflict.tags', 'fail', 'cp310'),
    ('ubuntu-t4', {'packages': {'numpy': {'tags': ['cp39-abi3-manylinux_2_17_x86_64']}}}, 'conflict.tags', 'ok', ''),
    ('ubuntu-t4', {'packages': {'torchao': '0.15.0'}}, 'conflict.torchao-peft', 'fail', '0.15.0'),
    ('ubuntu-t4', {'packages': {'torchao': '0.15.0+cu126', 'peft': {'version': '0.18.0', 'requires': []}}}, 'conflict.torchao-peft', 'ok', ''),
    ('ubuntu-t4', {'packages': {'keras': '3.0', 'tensorflow': '2.15.0'}}, 'conflict.keras3-transformers', 'ok', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_packages(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
