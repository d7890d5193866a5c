"""WSL: what a container inside it, and an old snapshot, look like."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {}, 'wsl.version', 'skip', ''),
    ('wsl2-rtx3060', {}, 'wsl.adapter', 'ok', ''),
    ('wsl2-rtx3060', {'files': {'/dev/dxg': None}}, 'wsl.adapter', 'unknown', ''),
    ('wsl2-rtx3060', {'files': {'/dev/dxg': False, '/.dockerenv': True}}, 'wsl.adapter', 'fail', 'container was started'),
    ('wsl2-rtx3060', {'files': {'/usr/lib/wsl/lib/libcuda.so.1': False}}, 'wsl.adapter', 'fail', 'no NVIDIA driver for WSL'),
    ('wsl2-rtx3060', {'system': {'memory': {'MemTotal': 4294967296, 'SwapTotal': 0}}}, 'wsl.memory', 'warn', '4 GiB'),
    ('wsl2-rtx3060', {'files': {'/mnt/c/Users/<user1>/.wslconfig': '[wsl2]\nmemory=8GB\n'}, 'listings': {'/mnt/c/Users/<user1>/.wslconfig': ['utf-8']}}, 'wsl.config', 'ok', ''),
    ('wsl2-rtx3060', {'files': {'/mnt/c/Users/<user1>/.wslconfig': 'memory=8GB\n'}, 'listings': {'/mnt/c/Users/<user1>/.wslconfig': ['utf-8']}}, 'wsl.config', 'warn', 'no section'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_wsl(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
