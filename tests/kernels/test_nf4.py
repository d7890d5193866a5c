"""NF4's kernel: every bit as the reference, strided buffers, shapes that divide nothing."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from compare import seeded

from ftlab_kernels import tuning
from ftlab_kernels.dispatch import using
from ftlab_kernels.nf4 import (
    Nf4Weight,
    dequantize_nf4,
    nf4_dequantize,
    nf4_dequantize_kernel,
    quantize_nf4,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def moved(weight: Nf4Weight, device: str) -> Nf4Weight:
    fields = {field.name: getattr(weight, field.name) for field in dataclasses.fields(weight)}
    return Nf4Weight(
        **{k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in fields.items()}
    )


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 64), (64, 63), (96, 320), (16, 500), (8, 1000), (640, 72)])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_bit_equal_to_the_reference(
    shape: tuple[int, int], dtype: torch.dtype, double: bool, device: str
) -> None:
    value = seeded(*shape, dtype=torch.float32, device="cpu")
    weight = quantize_nf4(value, double_quant=double, blocksize=32)
    truth = weight.dequantise(dtype)
    weight = moved(weight, device)
    assert same(dequantize_nf4(weight, dtype).cpu(), truth)
    buffer = torch.full((shape[0], shape[1] + 16), 7.0, dtype=dtype, device=device)
    nf4_dequantize(weight, out=buffer[:, : shape[1]])
    assert same(buffer[:, : shape[1]].cpu(), truth)
    assert (buffer[:, shape[1] :] == 7.0).all()


def same(got: torch.Tensor, truth: torch.Tensor) -> bool:
    """Equal; bfloat16 in triton's interpreter is cut off, so it is compared after as much."""
    if truth.dtype is torch.bfloat16 and not torch.cuda.is_available():
        return bool(((got - truth).abs() <= truth.abs() * 2.0**-7).all())
    return torch.equal(got, truth)


def test_a_wrong_buffer_is_refused() -> None:
    weight = quantize_nf4(torch.randn(8, 64))
    with pytest.raises(ValueError, match="not \\(8, 64\\)"):
        dequantize_nf4(weight, torch.float32, out=torch.empty(8, 32))


def test_switched_off_it_is_the_reference() -> None:
    weight = quantize_nf4(torch.randn(8, 64))
    with using("off"):
        out = torch.empty(8, 64)
        assert dequantize_nf4(weight, torch.float32, out=out) is out
        assert torch.equal(out, weight.dequantise(torch.float32))


def jobs() -> list[Job]:
    made = []
    for capability in CAPABILITIES:
        for out in ("*bf16" if capability >= 80 else "*fp16", "*fp32"):
            for K, contiguous in ((4096, True), (4096, False), (500, False)):
                for double in (True, False):
                    size = "out_4" if out == "*fp32" else "out_2"
                    config = dict(tuning.lookup("nf4", size, capability))
                    warps = config.pop("num_warps")
                    signature = {
                        "p_packed": "*i32", "p_out": out, "p_code": "*fp32",
                        "p_absmax": "*u8" if double else "*fp32", "p_absmax_code": "*fp32",
                        "p_nested": "*fp32", "offset": "fp32", "WORDS": "i32", "stride_out": "i32",
                    }  # fmt: skip
                    constants = {
                        "K": K, "WORDS_BLOCK": 8, "NESTED_BLOCK": 256, "DOUBLE": double,
                        "CONTIGUOUS": contiguous, **config,
                    }  # fmt: skip
                    made.append(
                        Job(
                            nf4_dequantize_kernel, signature, constants, capability, warps,
                            aligned=("stride_out",), options=(("enable_fp_fusion", False),),
                        )
                    )  # fmt: skip
    return made


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    made = jobs()
    assert len(made) == 12 * len(CAPABILITIES)
    for job, compiled in zip(made, compile_many(made), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        assert compiled.spills == 0, job


@pytest.mark.gpu
def test_beyond_2_31_values() -> None:
    rows, wide = (1 << 19) + 64, 4096
    small = quantize_nf4(torch.randn(64, wide, device="cuda"), double_quant=False)
    packed = torch.zeros(rows * wide // 2, dtype=torch.uint8, device="cuda")
    packed[-64 * wide // 2 :] = small.packed.view(-1)
    absmax = torch.zeros(rows * wide // 64, device="cuda")
    absmax[-64 * wide // 64 :] = small.absmax
    large = Nf4Weight(packed, (rows, wide), small.code, absmax, 64)
    got = dequantize_nf4(large, torch.bfloat16)
    assert torch.equal(got[-64:], small.dequantise(torch.bfloat16))
    assert torch.equal(got, dequantize_nf4(large, torch.bfloat16))
