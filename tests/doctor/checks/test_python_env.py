"""Environments: mixed, doubled, copied, and of another Python."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'env': {'PIP_TARGET': '~/lib'}}, 'env.pip', 'warn', 'PIP_TARGET'),
    ('colab-t4', {}, 'env.pip', 'ok', ''),
    ('ubuntu-t4', {'python': {'pip': False}}, 'env.pip', 'skip', ''),
    ('ubuntu-t4', {'env': {'PYTHONPATH': '/opt/ros/lib/python3.10/site-packages'}}, 'env.variables', 'fail', 'python3.10'),
    ('ubuntu-t4', {'env': {'PYTHONPATH': '~/src'}}, 'env.variables', 'ok', ''),
    ('ubuntu-t4', {'python': {'venv': 'version = 3.9.1\n'}}, 'env.base', 'fail', '3.9.1'),
    ('ubuntu-t4', {'leftovers': ['~/venv/~orch']}, 'env.duplicates', 'warn', 'renamed'),
    ('ubuntu-t4', {'packages': {'numpy': {'damaged': ['numpy/core.so: missing']}}}, 'env.damaged', 'fail', 'numpy'),
    ('ubuntu-t4', {'packages': {'rich': {'damaged': ['rich/a.py: missing']}}}, 'env.damaged', 'warn', 'rich'),
    ('ubuntu-t4', {'locks': None}, 'env.lock', 'skip', ''),
    ('ubuntu-t4', {'packages': {'rich': '1.0'}}, 'env.lock', 'warn', '1 of 76'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_an_environment(
    name: str, patch: dict[str, Any], check: str, status: str, words: str
) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
