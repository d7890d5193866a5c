"""The global norm and the clipping by it, over many gradients of several dtypes."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from compare import close, seeded

from ftlab_kernels import tuning
from ftlab_kernels.global_norm_clip import (
    global_norm_clip,
    norm_kernel,
    scale_kernel,
    square_sum_kernel,
)


def gradients(device: str) -> list[torch.Tensor]:
    shapes = [(1,), (63,), (5000,), (64, 65), (3,), (2, 4096), (500, 16)]
    dtypes = [torch.float32, torch.bfloat16, torch.float16]
    return [
        seeded(*shape, dtype=dtypes[index % 3], device=device, seed=index)
        for index, shape in enumerate(shapes)
    ]


@pytest.mark.parametrize("max_norm", [None, 1.0, 1e6])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_norm_and_scaled_gradients(max_norm: float | None, device: str) -> None:
    grads = gradients(device)
    before = [grad.clone() for grad in grads]
    norm = torch.cat([grad.double().view(-1) for grad in grads]).norm()
    got = global_norm_clip(grads, max_norm)
    assert got.dtype is torch.float32
    close("global_norm_clip", "norm", got, norm)
    factor = 1.0 if max_norm is None else min(1.0, max_norm / (float(norm) + 1e-6))
    for index, (grad, old) in enumerate(zip(grads, before, strict=True)):
        if factor == 1.0:
            assert torch.equal(grad, old)
        close("global_norm_clip", f"gradient {index}", grad, old.double() * factor)
    again = [old.clone() for old in before]
    assert torch.equal(global_norm_clip(again, max_norm), got)
    assert all(torch.equal(one, two) for one, two in zip(grads, again, strict=True))


@pytest.mark.usefixtures("interpret")
def test_nan_shows_in_the_norm(device: str) -> None:
    grads = gradients(device)
    grads[3][5, 5] = torch.nan
    assert global_norm_clip(grads, 1.0).isnan()


def test_no_gradients_are_refused() -> None:
    with pytest.raises(ValueError, match="no gradients"):
        global_norm_clip([], 1.0)


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    jobs = []
    for capability in CAPABILITIES:
        config = dict(tuning.lookup("global_norm_clip", "*", capability))
        warps = config.pop("num_warps")
        table = {"p_addresses": "*i64", "p_sizes": "*i64", "p_first": "*i32", "COUNT": "i32"}
        for dtype in ("*fp32", "*bf16" if capability >= 80 else "*fp16"):
            typed, constants = {**table, "p_typed": dtype}, {"STEPS": 9, **config}
            jobs += [
                Job(square_sum_kernel, {**typed, "p_sums": "*fp32"}, constants, capability, warps),
                Job(scale_kernel, {**typed, "p_scale": "*fp32"}, constants, capability, warps),
            ]
        signature = {"p_sums": "*fp32", "p_norm": "*fp32", "p_scale": "*fp32", "max_norm": "fp32",
                     "COUNT": "i32"}  # fmt: skip
        jobs.append(Job(norm_kernel, signature, {"CLIP": True, "BLOCK": 4096}, capability, 8))
    assert len(jobs) == 5 * len(CAPABILITIES)
    for job, compiled in zip(jobs, compile_many(jobs), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        assert compiled.spills == 0
