"""Cache folders beyond the fixtures: what is local, what is remote, what nobody looked at."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'files': {'/proc/mounts': '/dev/sda / ext4 rw 0 0\nx ~/.triton fuseblk rw 0 0\n'}}, 'cache.local', 'ok', ''),
    ('ubuntu-t4', {'files': {'/proc/mounts': '/dev/sda / ext4 rw 0 0\nx ~/.triton lustre rw 0 0\n'}}, 'cache.local', 'warn', 'lustre'),
    ('ubuntu-t4', {'files': {'/proc/mounts': '/dev/sda / ext4 rw 0 0\nx ~/.cache fuse.rclone rw 0 0\n'}}, 'cache.store', 'warn', 'rclone'),
    ('ubuntu-t4', {'files': {'/proc/mounts': '/dev/sda / ext4 rw 0 0\nmountpoint-s3 ~/ftlab fuse rw 0 0\n'}}, 'cache.store', 'warn', 'mountpoint-s3'),
    ('ubuntu-t4', {'files': {'/proc/mounts': None}}, 'cache.store', 'unknown', ''),
    ('ubuntu-t4', {'places': {'triton': {'refused': 'ENOSPC'}}}, 'cache.writable', 'fail', 'ENOSPC'),
    ('ubuntu-t4', {'places': {'hf': {'owner': 0}}}, 'cache.owner', 'warn', 'another user'),
    ('ubuntu-t4', {'places': {'hf': {'owner': 0}}, 'system': {'uid': 0}}, 'cache.owner', 'ok', ''),
    ('ubuntu-t4', {'system': {'named': False}}, 'cache.user', 'fail', 'no name'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_cache(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
