"""lora_sum: parts of three targets into their gradients, set or added, bit for bit in order."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, Job, compile_many
from torch import Tensor

from ftlab_kernels import lora_sum

FIRSTS, SHAPES = (0, 16, 40), ((9, 50), None, (50, 20))
SCALES = (0.5, 0.0, 2.0)


def in_order(parts: Tensor) -> Tensor:
    """((0 + part 0) + part 1) + ..., each sum rounded."""
    total = torch.zeros_like(parts[0])
    for part in parts:
        total = total + part
    return total


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("accumulate", [False, True])
@pytest.mark.parametrize("parts", [1, 3, 8, 17])
def test_sums_in_order(parts: int, accumulate: bool, device: str) -> None:
    part = torch.randn(parts, 90, 50).to(device)
    outs = [None if shape is None else torch.ones(shape, device=device) for shape in SHAPES]
    lora_sum.sum_parts(part, outs, FIRSTS, SCALES, accumulate=accumulate)
    for out, first, scale in zip(outs, FIRSTS, SCALES, strict=True):
        if out is None:
            continue
        rows, columns = out.shape
        total = in_order(part)[first : first + rows, :columns] * scale + accumulate
        if device == "cpu":
            assert torch.equal(out, total)
        else:  # the compiler may fuse the factor with the last addition
            torch.testing.assert_close(out, total, rtol=1e-6, atol=1e-6)


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    numbers = [f"{name}{i}" for name in ("first", "rows", "columns") for i in range(3)]
    signature = {
        "p_part": "*fp32", **{f"p_out{i}": "*fp32" for i in range(3)},
        **dict.fromkeys(["S", "s_part", "COLUMNS", *numbers], "i32"),
        **{f"scale{i}": "fp32" for i in range(3)},
    }  # fmt: skip
    constants = {
        "ACCUMULATE": True, "TARGETS": 3, "UNROLL": lora_sum.UNROLL, "BLOCK": lora_sum.BLOCK,
    }  # fmt: skip
    jobs = [
        Job(lora_sum._sum_kernel, signature, constants, capability,
            aligned=["s_part", "COLUMNS", *numbers])
        for capability in CAPABILITIES
    ]  # fmt: skip
    assert [one.spills for one in compile_many(jobs)] == [0] * len(jobs)
