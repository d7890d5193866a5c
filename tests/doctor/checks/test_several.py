"""Two cards: of one kind, linked, or behind an IOMMU."""

from __future__ import annotations

from typing import Any

import doctor_fixtures as fixtures
import pytest

CASES: list[tuple[str, dict[str, Any], str, str, str]] = [
    ('ubuntu-t4', {}, 'gpu.iommu', 'skip', 'one card'),
    ('rtx4090-pair', {}, 'gpu.iommu', 'unknown', ''),
    ('rtx4090-pair', {'cards': {'iommu': 'DMA'}, 'gpus': {'nvlink': 1}}, 'gpu.iommu', 'ok', 'NVLink'),
    ('rtx4090-pair', {'cards': {'iommu': 'DMA'}, 'system': {'cpu': {'flags': ['avx', 'avx2', 'hypervisor']}}}, 'gpu.iommu', 'ok', ''),
    ('rtx4090-pair', {'cards': {'iommu': 'DMA'}, 'env': {'NCCL_P2P_DISABLE': '1'}}, 'gpu.iommu', 'ok', ''),
    ('rtx4090-pair', {'nvml': {'driver': '545.1'}}, 'gpu.p2p', 'fail', 'RTX 40'),
    ('rtx4090-pair', {}, 'gpu.mixed', 'ok', '2 x'),
]  # fmt: skip


@pytest.mark.parametrize(("name", "patch", "check", "status", "words"), CASES)
def test_two_cards(name: str, patch: dict[str, Any], check: str, status: str, words: str) -> None:
    found = fixtures.asked(name, patch, check)
    assert (found.status, words in f"{found.title} {found.observed}") == (status, True), found
