"""The loader's view where little is known."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('cpu-laptop', {'elf': None}, 'lib.broken', 'skip', ''),
    ('ubuntu-t4', {'libraries': None}, 'lib.missing', 'unknown', ''),
    ('ubuntu-t4', {'env': {'LD_PRELOAD': '/usr/lib/libjemalloc.so.2'}}, 'lib.preload', 'ok', ''),
    ('ubuntu-t4', {'env': {'LD_PRELOAD': '/opt/cuda/libcublas.so.12'}}, 'lib.preload', 'fail', 'libcublas'),
    ('ubuntu-t4', {'env': {'LD_PRELOAD': '/opt/strange.so'}}, 'lib.preload', 'warn', 'strange'),
    ('ubuntu-t4', {'commands': {'ldconfig': None}}, 'lib.triton-libcuda', 'unknown', ''),
    ('ngc-h100', {}, 'lib.foreign', 'ok', 'system'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_library(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
