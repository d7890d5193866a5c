"""What extensions need beside torch."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ngc-h100', {}, 'lib.needs', 'ok', '2 extensions'),
    ('ubuntu-t4', {'elf': {'~/venv/lib/python3.11/site-packages/vllm/_C.abi3.so': {'needed': ['libcudart.so.13']}}, 'packages': {'vllm': '0.11.0'}}, 'lib.needs', 'warn', 'CUDA 13'),
    ('ubuntu-t4', {'elf': {'~/venv/lib/python3.11/site-packages/flash_attn_2_cuda.so': {'needed': ['libcudart.so.13']}}, 'packages': {'flash-attn': '2.8'}}, 'lib.needs', 'fail', 'CUDA 13'),
    ('h100', {}, 'lib.drops', 'ok', 'sm_90'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_need(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
