"""Compilers: one that is named and absent, nvcc of another CUDA, a gcc too new for it."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'env': {'CC': 'icc'}, 'programs': {'$CC': False}}, 'build.cc', 'fail', 'icc'),
    ('cpu-laptop', {'programs': {'gcc': False, 'cc': False, 'clang': False}}, 'build.cc', 'warn', 'no C compiler'),
    ('ubuntu-t4', {'programs': None}, 'build.cc', 'unknown', ''),
    ('ubuntu-t4', {'files': {'/usr/include/stdlib.h': False}}, 'build.headers', 'fail', 'C library'),
    ('ubuntu-t4', {'programs': {'g++': False}}, 'build.cxx', 'warn', 'g++'),
    ('ubuntu-t4', {}, 'build.nvcc', 'skip', ''),
    ('ngc-h100', {}, 'build.gcc', 'ok', 'gcc 13'),
    ('ngc-h100', {'commands': {'cc': {'out': '16\n'}}}, 'build.gcc', 'warn', 'gcc 16'),
    ('ngc-h100', {'commands': {'cc': {'out': '16\n'}}, 'env': {'NVCC_PREPEND_FLAGS': '-ccbin g++-13'}}, 'build.gcc', 'skip', ''),
    ('cpu-laptop', {'packages': {'deepspeed': '0.18.2'}}, 'build.deepspeed', 'ok', 'no GPU'),
    ('ngc-h100', {'packages': {'deepspeed': '0.18.2'}}, 'build.deepspeed', 'ok', 'nvcc'),
    ('ngc-h100', {'packages': {'deepspeed': '0.18.2'}, 'files': {'$CUDA_HOME': False}}, 'build.deepspeed', 'fail', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_toolchain(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
