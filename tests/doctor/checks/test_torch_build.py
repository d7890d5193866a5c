"""torch and Triton against cards that no fixture has."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('dgx-spark', {}, 'torch.arch', 'ok', 'sm_120'),
    ('dgx-spark', {'builds': {'torch': {'arch': ['sm_90']}}}, 'torch.arch', 'fail', 'GB10'),
    ('dgx-spark', {'builds': {'triton': {'ptxas-blackwell': None}}}, 'triton.ptxas', 'fail', '12.8'),
    ('ubuntu-t4', {'builds': {'torch': {'version': '9.9.9+cu199', 'cuda': '19.9', 'arch': None}}}, 'torch.arch', 'unknown', '9.9.9'),
    ('cpu-laptop', {'builds': {'torch': {'cuda': None}}}, 'torch.cuda', 'ok', 'no NVIDIA GPU'),
    ('ubuntu-t4', {'builds': {'torch': {'version': '2.3.0+cu121'}}}, 'torch.whole', 'fail', '2.3.0'),
    ('ubuntu-t4', {'packages': {'triton': None}}, 'triton.card', 'warn', 'not installed'),
    ('ubuntu-t4', {'packages': {}}, 'torch.installed', 'ok', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_torch(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
