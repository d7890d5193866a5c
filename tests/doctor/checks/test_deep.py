"""Probes: results turned into findings; no probe is a skip."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {}, 'probe.torch', 'skip', '--deep'),
    ('ubuntu-t4', {'probes': {'torch': {'rc': 0, 'seconds': 2.0, 'out': {'said': 'torch 2.4.1'}}}}, 'probe.torch', 'ok', 'torch 2.4.1 (2.0 s)'),
    ('ubuntu-t4', {'probes': {'nccl': {'skipped': 'one GPU'}}}, 'probe.nccl', 'skip', 'one GPU'),
    ('ubuntu-t4', {'probes': {'triton': {'rc': -250, 'out': {}}}}, 'probe.triton', 'fail', 'signal 250'),
    ('ubuntu-t4', {'probes': {'xformers': {'rc': 1, 'err': 'ImportError: no\n', 'out': {}}}}, 'probe.xformers', 'warn', 'ImportError'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_probe(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
