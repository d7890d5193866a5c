"""lora_sum: parts of three targets into their gradients, set or added."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, Job, compile_many

from ftlab_kernels import lora_sum


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("accumulate", [False, True])
def test_sums_in_order(accumulate: bool, device: str) -> None:
    part = torch.randn(3, 90, 50).to(device)
    firsts, shapes = (0, 16, 40), ((9, 50), None, (50, 20))
    outs = [None if shape is None else torch.ones(shape, device=device) for shape in shapes]
    lora_sum.sum_parts(part, outs, firsts, (0.5, 0.0, 2.0), accumulate=accumulate)
    for out, first, scale in zip(outs, firsts, (0.5, 0.0, 2.0), strict=True):
        if out is None:
            continue
        rows, columns = out.shape
        total = (part[0] + part[1] + part[2])[first : first + rows, :columns] * scale
        torch.testing.assert_close(out, total + accumulate, rtol=1e-6, atol=1e-6)


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    numbers = [f"{name}{i}" for name in ("row", "rows", "columns") for i in range(3)]
    signature = {
        "p_part": "*fp32", **{f"p_out{i}": "*fp32" for i in range(3)},
        **dict.fromkeys(["S", "s_part", "COLUMNS", *numbers], "i32"),
        **{f"scale{i}": "fp32" for i in range(3)},
    }  # fmt: skip
    constants = {"ACCUMULATE": True, "TARGETS": 3, "BLOCK_M": 16, "BLOCK_N": 128}
    jobs = [Job(lora_sum._sum_kernel, signature, constants, c) for c in CAPABILITIES]
    assert [one.spills for one in compile_many(jobs)] == [0] * len(jobs)
