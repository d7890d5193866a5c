"""--for: what a config asks for against the card, and the files of a local model."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'config': {'path': 'x', 'readable': False}}, 'config.readable', 'fail', 'cannot be read'),
    ('ubuntu-t4', {'config': {'path': 'x', 'readable': True, 'asked': {'bf16': 'auto'}}}, 'config.precision', 'ok', 'sm_75'),
    ('ubuntu-t4', {'config': {'path': 'x', 'readable': True, 'asked': {'load_in_8bit': 'true'}}}, 'config.precision', 'ok', ''),
    ('ubuntu-t4', {'config': {'path': 'x', 'readable': True, 'asked': {'tf32': 'yes'}}}, 'config.precision', 'fail', 'tf32'),
    ('ubuntu-t4', {'config': {'path': 'x', 'readable': True, 'model': {'path': 'm', 'files': {'a.gguf': 1}}}}, 'config.model', 'warn', 'no config.json'),
    ('ubuntu-t4', {'config': {'path': 'x', 'readable': True, 'model': {'path': 'm', 'files': {'config.json': 1, 'model.safetensors': 2000000000}}}}, 'config.model', 'ok', '2.0 GB'),
    ('ubuntu-t4', {'config': {'path': 'x', 'readable': True, 'planned': True, 'rc': 0, 'memory': 106300440576, 'device': 'cuda:0'}}, 'config.memory', 'fail', '99.0 GiB'),
    ('cpu-laptop', {'config': {'path': 'x', 'readable': True, 'planned': True, 'rc': 0, 'disk': 1000000000000000}}, 'config.disk', 'fail', 'writes up to'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_config(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
