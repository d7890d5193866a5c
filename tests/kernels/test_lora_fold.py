"""lora_fold: what stands where in the buffer, for every kind of weight."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, Job, compile_many

from ftlab_kernels import lora_fold
from ftlab_kernels.lora_group import Adapter, Linear, LoraGroup, fold_weights
from ftlab_kernels.nf4 import quantize_nf4
from ftlab_kernels.reference.int8 import Int8Weight


def _group(device: str, K: int = 64) -> LoraGroup:
    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape).to(device)

    int8 = Int8Weight(torch.randint(-127, 127, (5, K), dtype=torch.int8).to(device), normal(5))
    return LoraGroup(
        (
            Linear(normal(30, K), normal(30), Adapter(normal(8, K), normal(30, 8), 0.5)),
            Linear(int8, None, Adapter(normal(20, K).half(), normal(5, 20), 2.0)),
            Linear(quantize_nf4(normal(70, K)), normal(70)),
        )
    )


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_everything_is_in_its_place(dtype: torch.dtype, device: str) -> None:
    group = _group(device)
    scratch = torch.empty(200 * 200, dtype=dtype, device=device)
    buffer = lora_fold.folded(group, dtype, torch.device(device), scratch)
    assert buffer.data_ptr() == scratch.data_ptr()
    N, K, columns = group.N, group.K, group.columns
    beside = torch.zeros(N, group.pad, device=device)
    below = torch.zeros(group.pad, K, device=device)
    for target, linear in enumerate(group.linears):
        part = group.part(target)
        weight = linear.weight
        dense = weight if isinstance(weight, torch.Tensor) else weight.dequantise(dtype)
        assert torch.equal(buffer[part, :K], dense.to(dtype))
        if linear.adapter:
            beside[part, columns.of(target)] = linear.adapter.b * linear.adapter.scaling
            below[columns.of(target)] = linear.adapter.a.float()
        if linear.bias is not None:
            beside[part, columns.ones] = linear.bias
    assert torch.equal(buffer[:N, K:], beside.to(dtype))
    assert torch.equal(buffer[N:, :K], below.to(dtype))


@pytest.mark.usefixtures("interpret")
def test_a_groups_own_buffer_is_not_filled_again(device: str) -> None:
    weight, a, b = torch.randn(40, 24), torch.randn(4, 24), torch.randn(40, 4)
    held, views = fold_weights([weight.to(device)], 64)
    adapter = Adapter(a.to(device), b.to(device), 1.0)
    group = LoraGroup((Linear(views[0], None, adapter),), folded=held)
    buffer = lora_fold.folded(group, torch.float32, torch.device(device), None)
    assert buffer is held
    assert torch.equal(buffer[:40, 24:28].cpu(), b)
    assert torch.equal(buffer[40:44, :24].cpu(), a)
    assert torch.equal(buffer[:40, :24].cpu(), weight)


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    names = [f"{name}{i}" for name in ("first", "rank", "bias") for i in range(3)]
    rows = [f"row{i}" for i in range(4)]
    numbers = ["N", "K", "s_out", "ones", "pad", "programs_b", *rows, *names]
    jobs = []
    for capability in CAPABILITIES:
        half = "*bf16" if capability >= 80 else "*fp16"
        signature = {
            "p_out": half,
            **{f"p_{name}{i}": "*fp32" for name in ("a", "b") for i in range(3)},
            **{f"p_bias{i}": half for i in range(3)},
            **dict.fromkeys(numbers, "i32"), **{f"scale{i}": "fp32" for i in range(3)},
        }  # fmt: skip
        constants = {"COUNT": 3, "BLOCK_N": 64, "BLOCK_C": 32, "BLOCK_K": 256}
        jobs.append(Job(lora_fold._margin_kernel, signature, constants, capability))
    assert len(compile_many(jobs)) == len(CAPABILITIES)
