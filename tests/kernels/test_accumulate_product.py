"""accumulate_product: added in fp32, any shape, any row stride."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many

from ftlab_kernels import accumulate_product, tuning


@pytest.mark.usefixtures("interpret")
@pytest.mark.parametrize("shape", [(1, 1, 1), (63, 100, 70), (130, 65, 33)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_adds_the_product(shape: tuple[int, int, int], dtype: torch.dtype, device: str) -> None:
    K, M, N = shape
    a = torch.randn(K, M + 3).to(device=device, dtype=dtype)[:, :M]
    b = torch.randn(K, N + 5).to(device=device, dtype=dtype)[:, :N]
    total = torch.randn(M, N, device=device)
    expected = total.double() + a.double().t() @ b.double()
    accumulate_product.accumulate_product(total, a, b)
    torch.testing.assert_close(total.double(), expected, rtol=1e-5, atol=2e-5)


def test_adds_without_a_kernel() -> None:
    a, b, total = torch.randn(5, 3), torch.randn(5, 4), torch.ones(3, 4)
    accumulate_product.accumulate_product(total, a, b)
    torch.testing.assert_close(total, 1 + a.t() @ b)


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    numbers = ["M", "N", "K", "s_a", "s_b", "s_total"]
    jobs = []
    for capability in CAPABILITIES:
        half = "*bf16" if capability >= 80 else "*fp16"
        config = dict(tuning.lookup("accumulate_product", "*", capability))
        warps, stages = config.pop("num_warps"), config.pop("num_stages")
        signature = {"p_a": half, "p_b": half, "p_total": "*fp32", **dict.fromkeys(numbers, "i32")}
        jobs.append(
            Job(accumulate_product._accumulate_kernel, signature, {"PRECISION": "tf32", **config},
                capability, warps, stages, aligned=numbers)
        )  # fmt: skip
    for job, compiled in zip(jobs, compile_many(jobs), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability], job
