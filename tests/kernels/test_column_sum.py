"""Sums over rows: right, and the same bits twice."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, Job, compile_many
from compare import close, seeded

from ftlab_kernels.column_sum import BLOCK, ROWS, column_sum, column_sum_kernel


@pytest.mark.parametrize("shape", [(1, 1), (63, 500), (264, 1000), (600, 40)])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_against_fp64(shape: tuple[int, int], device: str) -> None:
    x = seeded(*shape, dtype=torch.float32, device=device)
    close("column_sum", "sum", column_sum(x), x.double().sum(0))
    assert torch.equal(column_sum(x), column_sum(x))


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    signature = {"p_x": "*fp32", "p_out": "*fp32", "T": "i32", "H": "i32"}
    jobs = [
        Job(
            column_sum_kernel, signature, {"ROWS": ROWS, "BLOCK": BLOCK}, capability, aligned=("H",)
        )
        for capability in CAPABILITIES
    ]
    assert all(compiled.spills == 0 for compiled in compile_many(jobs))
