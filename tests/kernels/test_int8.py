"""int8's kernel: every bit as the reference, into strided buffers."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many

from ftlab_kernels import tuning
from ftlab_kernels.int8 import Int8Weight, dequantize_int8, int8_dequantize, int8_dequantize_kernel

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def made(rows: int, columns: int, device: str) -> Int8Weight:
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (rows, columns), generator=generator, dtype=torch.int8)
    return Int8Weight(values.to(device), torch.rand(rows, generator=generator).to(device))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (63, 63), (9, 500), (3, 4100)])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_equal_to_the_reference(shape: tuple[int, int], dtype: torch.dtype, device: str) -> None:
    weight = made(*shape, device)
    truth = weight.dequantise(dtype)
    buffer = torch.full((shape[0], shape[1] + 8), 7.0, dtype=dtype, device=device)
    int8_dequantize(weight, out=buffer[:, : shape[1]])
    assert (buffer[:, shape[1] :] == 7.0).all()
    got = dequantize_int8(weight, dtype)
    assert torch.equal(got, buffer[:, : shape[1]])
    if dtype is torch.bfloat16 and device == "cpu":  # the interpreter cuts bfloat16 off
        assert ((got - truth).abs() <= truth.abs() * 2.0**-7).all()
    else:
        assert torch.equal(got, truth)


def test_a_wrong_buffer_is_refused() -> None:
    with pytest.raises(ValueError, match="not \\(8, 64\\)"):
        dequantize_int8(made(8, 64, "cpu"), torch.float32, out=torch.empty(8, 32))


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    jobs = []
    for capability in CAPABILITIES:
        for out in ("*bf16" if capability >= 80 else "*fp16", "*fp32"):
            config = dict(tuning.lookup("int8", "out_2", capability))
            warps = config.pop("num_warps")
            signature = {
                "p_values": "*i8", "p_absmax": "*fp32", "p_out": out, "N": "i32", "K": "i32",
                "stride_values": "i32", "stride_out": "i32",
            }  # fmt: skip
            jobs.append(
                Job(
                    int8_dequantize_kernel, signature, config, capability, warps,
                    aligned=("K", "stride_values", "stride_out"),
                )
            )  # fmt: skip
    assert len(jobs) == 2 * len(CAPABILITIES)
    for job, compiled in zip(jobs, compile_many(jobs), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        assert compiled.spills == 0
