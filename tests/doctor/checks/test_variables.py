"""Variables that are set to something odd."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {'env': {'PYTORCH_CUDA_ALLOC_CONF': 'expandable_segments:True'}}, 'vars.allocator', 'ok', ''),
    ('ubuntu-t4', {'env': {'PYTORCH_CUDA_ALLOC_CONF': 'roundup_power2_divisions:[256:1,512:2],expandable_segments:True'}}, 'vars.allocator', 'ok', ''),
    ('ubuntu-t4', {'env': {'PYTORCH_ALLOC_CONF': 'expandable_segments=True'}}, 'vars.allocator', 'fail', 'cannot be read'),
    ('ubuntu-t4', {'env': {'PYTORCH_CUDA_ALLOC_CONF': 'brand_new:1'}}, 'vars.allocator', 'warn', 'brand_new'),
    ('ubuntu-t4', {'env': {'WORLD_SIZE': '4', 'SLURM_NTASKS': '4'}}, 'vars.ranks', 'ok', 'Slurm'),
    ('ubuntu-t4', {'env': {'WORLD_SIZE': 'x'}}, 'vars.ranks', 'ok', ''),
    ('ubuntu-t4', {'system': {'interfaces': ['lo', 'eth0']}, 'env': {'NCCL_SOCKET_IFNAME': '^docker'}}, 'vars.interfaces', 'ok', ''),
    ('ubuntu-t4', {'system': {'interfaces': ['lo', 'eth0']}, 'env': {'NCCL_SOCKET_IFNAME': '=eth0'}}, 'vars.interfaces', 'ok', ''),
    ('cpu-laptop', {'env': {'CUDA_LAUNCH_BLOCKING': '1'}}, 'vars.costly', 'ok', ''),
    ('ubuntu-t4', {'env': {'PYTORCH_NO_CUDA_MEMORY_CACHING': '0'}}, 'vars.costly', 'warn', 'NO_CUDA_MEMORY_CACHING'),
    ('ubuntu-t4', {'env': {'HF_HUB_ENABLE_HF_TRANSFER': '0'}}, 'vars.transfer', 'ok', ''),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_a_variable(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
