"""bitsandbytes, xformers and flash-attn where files or facts are missing."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'builds': {'bitsandbytes': None}}, 'bnb.binary', 'unknown', ''),
    ('ubuntu-t4', {'packages': {'bitsandbytes': None}}, 'bnb.binary', 'skip', ''),
    ('ubuntu-t4', {'env': {'BNB_CUDA_VERSION': '121'}}, 'bnb.override', 'warn', '121'),
    ('ubuntu-t4', {'builds': {'xformers': None}}, 'xformers.build', 'unknown', ''),
    ('ubuntu-t4', {'packages': {'xformers': None}}, 'xformers.arch', 'skip', ''),
    ('ngc-h100', {}, 'flash.card', 'ok', ''),
    ('ngc-h100', {}, 'flash.build', 'ok', ''),
    ('dgx-spark', {}, 'bnb.arch', 'ok', 'sm_121'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_an_extension(
    name: str, patch: dict[str, Any], check: str, status: str, words: str
) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
