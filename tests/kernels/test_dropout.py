"""dropout: the reference's bits, on strided rows and in place, with the key on the device."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, Job, compile_many
from compare import seeded

from ftlab_kernels.dropout import dropout, dropout_kernel
from ftlab_kernels.reference.dropout import dropout as reference

SEED = 123456789012345


def check(dtype: torch.dtype, p: float, device: str) -> None:
    x = seeded(7, 1200, dtype=dtype, device=device)[:, :1100]
    key = torch.tensor([5, SEED], device=device)[1]
    expected = reference(x.contiguous(), p, SEED)
    assert torch.equal(dropout(x, p, key), expected)
    assert torch.equal(dropout(x, p, key, out=x), expected)


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("p", [0.0, 0.3])
def test_bits_of_the_reference(p: float, device: str) -> None:
    for dtype in (torch.float32, torch.float16):
        check(dtype, p, device)


def test_without_kernels() -> None:
    check(torch.float64, 0.3, "cpu")


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    jobs = []
    for capability in CAPABILITIES:
        half = "*bf16" if capability >= 80 else "*fp16"
        numbers = dict.fromkeys(["K", "stride_x", "stride_y"], "i32")
        signature = {"p_x": half, "p_y": half, "p_seed": "*i64", **numbers, "p": "fp32"}
        jobs.append(
            Job(dropout_kernel, {**signature, "gain": "fp32"}, {"BLOCK": 1024}, capability,
                unaligned=["p_seed"], aligned=list(numbers))
        )  # fmt: skip
    assert all(compiled.spills == 0 for compiled in compile_many(jobs))
