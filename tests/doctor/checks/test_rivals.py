"""Packages that own the same files."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {}, 'env.rivals', 'ok', ''),
    ('ubuntu-t4', {'packages': {'pynvml': '13.0.1'}}, 'env.rivals', 'ok', ''),
    ('ubuntu-t4', {'packages': {'triton-windows': {'inactive': True}}}, 'env.rivals', 'ok', ''),
    ('ubuntu-t4', {'packages': {'pytorch-triton': '3.1'}}, 'env.rivals', 'warn', 'pytorch-triton'),
    ('ubuntu-t4', {'packages': {'nvidia-nccl-cu13': {'damaged': ['x: missing']}}}, 'env.rivals', 'warn', 'nvidia-nccl-cu13'),
    ('ubuntu-t4', {'packages': {'nvidia-nccl-cu13': {'damaged': ['x: missing']}}}, 'env.damaged', 'ok', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_rivals(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
