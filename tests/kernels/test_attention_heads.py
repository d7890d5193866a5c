"""Parts of dk and dv by query head: when they are made, and that their sum is right."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, Job, compile_many
from attention_formula import NAMES, pack, tensors, truth
from compare import seeded

from ftlab_kernels import attention_heads
from ftlab_kernels.attention_backward import attention_backward
from ftlab_kernels.attention_forward import attention_forward

# Triton's interpreter turns one-element arrays into the ends of loops, which numpy deprecates.
SILENT = pytest.mark.filterwarnings("ignore:Conversion of an array:DeprecationWarning")


@pytest.mark.parametrize(
    ("T", "q_heads", "kv_heads", "D", "heads"),
    [
        (4096, 9, 3, 64, 1),  # SmolLM2-135M: 192 tiles
        (4096, 32, 8, 128, 4),  # Llama-3-8B: 512 tiles
        (2048, 32, 8, 128, 4),  # few, but the parts would be 128 MiB
        (512, 4, 4, 64, 1),  # no groups: one head is all of it
    ],
)
def test_shapes_alone_decide(T: int, q_heads: int, kv_heads: int, D: int, heads: int) -> None:
    q = torch.empty(T, q_heads, D, device="meta")
    assert attention_heads.heads_of_program(q, kv_heads, 64) == heads


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("group", [2, 3])
def test_adds_in_the_order_of_the_heads(group: int, device: str) -> None:
    part_k, part_v = (
        seeded(7, 2 * group, 48, dtype=torch.float32, device=device, seed=seed) for seed in (1, 2)
    )
    wide = torch.full((7, 5, 48), 7.0, device=device)
    attention_heads.sum_heads(part_k, part_v, wide[:, :2], wide[:, 2:4])
    for part, got in ((part_k, wide[:, :2]), (part_v, wide[:, 2:4])):
        heads = part.view(7, 2, group, 48)
        total = heads[:, :, 0]
        for g in range(1, group):
            total = total + heads[:, :, g]
        assert torch.equal(got, total)
    assert (wide[:, 4] == 7.0).all()


@SILENT
@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("name", ["mixed", "pairs"])
@pytest.mark.parametrize("apart", [True, False])
def test_backward_is_right_either_way(
    name: str, apart: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_heads, "PLACES", 1 << 30 if apart else 0)
    plan = pack(name, device)
    q, k, v, grad = tensors(plan, 6, 2, 16, torch.float32)
    out, lse = attention_forward(q, k, v, plan, scale=0.3, window=40)
    grads = attention_backward(grad, q, k, v, out, lse, plan, scale=0.3, window=40)
    expected = truth(q, k, v, grad, plan, 0.3, 40, None)
    for gradient, ours in zip(NAMES[1:], grads, strict=True):
        error = (ours.double() - expected[gradient]).abs().max()
        assert error < 5e-6 * expected[gradient].abs().max(), gradient


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    signature = {"p_k": "*fp32", "p_v": "*fp32", "p_dk": "*fp16", "p_dv": "*fp16", "N": "i32"}
    signature |= dict.fromkeys(["s_dkt", "s_dkh", "s_dvt", "s_dvh"], "i32")
    sizes = {"GROUP": 3, "KV": 3, "D": 64, "BLOCK": attention_heads.BLOCK}
    jobs = [
        Job(attention_heads.sum_heads_kernel, signature, sizes, capability, aligned=("N",))
        for capability in CAPABILITIES
    ]
    assert all(compiled.spills == 0 for compiled in compile_many(jobs))
