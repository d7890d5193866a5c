"""Processor, C library, Python, memory, limits and clock at their borders."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'system': {'name': 'Darwin', 'machine': 'arm64'}}, 'platform.system', 'fail', 'Darwin'),
    ('ubuntu-t4', {'system': {'machine': 'ppc64le'}}, 'platform.system', 'fail', 'ppc64le'),
    ('ubuntu-t4', {'system': {'cpu': {'flags': []}}}, 'platform.cpu', 'unknown', ''),
    ('dgx-spark', {}, 'platform.cpu', 'skip', ''),
    ('ubuntu-t4', {'system': {'libc': ['musl', '1.2']}}, 'platform.glibc', 'fail', 'musl'),
    ('ubuntu-t4', {'system': {'libc': ['glibc', '2.12']}}, 'platform.glibc', 'fail', '2.12'),
    ('ubuntu-t4', {'python': {'implementation': 'pypy'}}, 'platform.python', 'fail', 'pypy'),
    ('ubuntu-t4', {'python': {'gil': False}}, 'platform.python', 'fail', 'GIL'),
    ('ubuntu-t4', {'system': {'memory': {'MemTotal': 4294967296}}}, 'platform.memory', 'warn', 'this machine has'),
    ('ubuntu-t4', {'system': {'cgroup': {'memory': 4294967296}}}, 'platform.memory', 'warn', 'this session may use'),
    ('in-docker-a100', {'system': {'cgroup': {'memory': 4294967296}}}, 'platform.memory', 'warn', 'this container may use'),
    ('ubuntu-t4', {'system': {'limits': {'NOFILE': 256}}}, 'platform.limits', 'warn', '256'),
    ('ubuntu-t4', {'system': {'limits': {'NOFILE': -1, 'NPROC': -1, 'MEMLOCK': -1, 'AS': -1}}}, 'platform.limits', 'ok', ''),
    ('rtx4090-pair', {'system': {'limits': {'MEMLOCK': 32768}}}, 'platform.limits', 'warn', '32 KiB'),
    ('ubuntu-t4', {'system': {'time': 1000000000}}, 'platform.clock', 'fail', 'clock'),
    ('ubuntu-t4', {'probes': {'hub': {'out': {'skew': 3600}}}}, 'platform.clock', 'fail', 'clock'),
    ('ubuntu-t4', {'commands': {'dmesg': None}}, 'platform.killed', 'unknown', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_the_platform(
    name: str, patch: dict[str, Any], check: str, status: str, words: str
) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
