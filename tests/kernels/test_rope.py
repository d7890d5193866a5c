"""Rope's kernels against the reference in fp64: views, tables, partial rotation, the head norm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from compare import all_close, close, seeded

from ftlab_kernels import tuning
from ftlab_kernels.reference.rope import rope as reference
from ftlab_kernels.rope import (
    rope,
    rope_,
    rope_kernel,
    rope_norm_backward_kernel,
    rope_norm_forward_kernel,
    tile,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SHAPES = [(1, 1, 1, 8, 4), (5, 9, 3, 64, 32), (7, 4, 2, 80, 16), (3, 8, 8, 96, 48)]  # T Hq Hk D R/2
FAMILIES = [{}, {"offset": 1.0}, {"offset": 1.0, "weight_fp32": True}]


def angles(rows: int, half: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    angle = torch.arange(rows)[:, None] / 100.0 ** (torch.arange(half) / half)
    return angle.cos().to(device), angle.sin().to(device)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("table", [False, True])
@pytest.mark.parametrize("family", [None, *FAMILIES])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_output_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, table: bool, family: Any, device: str
) -> None:
    T, HQ, HK, D, half = shape
    inputs = {
        "q": seeded(T, HQ, D, dtype=dtype, device=device, seed=0),
        "k": seeded(T, HK, D, dtype=dtype, device=device, seed=1),
    }
    if family is not None:
        inputs["q_weight"] = 1 + seeded(D, dtype=dtype, device=device, seed=2) / 4
        inputs["k_weight"] = 1 + seeded(D, dtype=dtype, device=device, seed=3) / 4
    inputs = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    cos, sin = angles(50 if table else T, half, device)
    positions = torch.arange(T, device=device).mul(7) % 50 if table else None
    grads = [seeded(*inputs[n].shape, dtype=dtype, device=device, seed=5) for n in ("q", "k")]

    def run(op: Any, given: dict[str, torch.Tensor], wide: bool) -> Any:
        facts = {"positions": positions, **(family or {})}
        trig = [x.double() if wide else x for x in (cos, sin)]
        outputs = op(given["q"], given["k"], *trig, **facts,
                     **{n: given[n] for n in given if n not in "qk"})  # fmt: skip
        sent = [g.double() if wide else g for g in grads]
        gradients = torch.autograd.grad(outputs, list(given.values()), sent)
        outputs = {n: o.detach() for n, o in zip(("q", "k"), outputs, strict=True)}
        return outputs, dict(zip(given, gradients, strict=True))

    outputs, gradients = run(rope, inputs, wide=False)
    wide = {name: value.detach().double().requires_grad_() for name, value in inputs.items()}
    truth, true_gradients = run(reference, wide, wide=True)
    all_close("rope" if family is None else "rope_norm", outputs, truth)
    op = "rope" if family is None else "rope_norm"
    all_close(op, gradients, true_gradients, gradient=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("interpret")
def test_in_place_on_slices_of_one_buffer_and_back(dtype: torch.dtype, device: str) -> None:
    T, HQ, HK, D = 5, 6, 2, 32
    buffer = seeded(T, (HQ + 2 * HK) * D, dtype=dtype, device=device)
    before = buffer.clone()
    q, k = (x.unflatten(1, (-1, D)) for x in buffer.split([HQ * D, HK * D, HK * D], 1)[:2])
    cos, sin = angles(T, D // 2, device)
    truth = reference(q.double(), k.double(), cos.double(), sin.double())
    rope_(q, k, cos, sin)
    close("rope", "q", q, truth[0])
    close("rope", "k", k, truth[1])
    assert torch.equal(buffer[:, -HK * D :], before[:, -HK * D :])
    rope_(q, k, cos, sin, inverse=True)
    close("rope_norm", "there and back", buffer, before.double())


def jobs() -> list[Job]:
    made = []
    for capability in CAPABILITIES:
        kind = "*bf16" if capability >= 80 else "*fp16"
        table = {"p_cos": "*fp32", "p_sin": "*fp32", "p_positions": "*i32", "T": "i32"}
        for HQ, HK, D, HALF in (
            (32, 8, 128, 64),
            (9, 3, 64, 32),
            (4, 1, 256, 128),
            (64, 8, 80, 16),
        ):
            config = dict(tuning.lookup("rope", f"rope_{tile(HQ * HALF)}", capability))
            warps = config.pop("num_warps")
            strides = [f"stride_{x}_{of}" for x in "qk" for of in ("token", "head")]
            made.append(
                Job(
                    rope_kernel,
                    {"p_q": kind, "p_k": kind, **table, **dict.fromkeys(strides, "i32")},
                    {"POSITIONS": True, "INVERSE": True, "HQ": HQ, "HK": HK, "BLOCK_HQ": tile(HQ),
                     "BLOCK_HK": tile(HK), "HALF": HALF, "BLOCK": tile(HALF), **config},
                    capability, warps, aligned=strides,
                )
            )  # fmt: skip
            config = dict(tuning.lookup("rope", f"norm_{tile(D)}", capability))
            warps = config.pop("num_warps")
            rest = D - 2 * HALF
            constants = {
                "OFFSET": 0.0, "WEIGHT_FP32": False, "POSITIONS": True, "HALF": HALF,
                "BLOCK": tile(HALF), "REST": rest, "BLOCK_REST": tile(max(rest, 1)), **config,
            }  # fmt: skip
            names = ("q", "q_out", "k", "k_out")
            strides = [f"stride_{x}_{of}" for x in names for of in ("token", "head")]
            forward = {**dict.fromkeys([f"p_{x}" for x in (*names, "q_weight", "k_weight")], kind),
                       "p_rstd": "*fp32", **table, **dict.fromkeys(strides, "i32"),
                       "tiles_q": "i32", "stride_rstd": "i32", "eps": "fp32"}  # fmt: skip
            made.append(
                Job(
                    rope_norm_forward_kernel, forward, {**constants, "HQ": HQ, "HK": HK},
                    capability, warps, aligned=strides,
                )
            )  # fmt: skip
            strides = [f"stride_{x}_{of}" for x in ("dy", "x") for of in ("token", "head")]
            backward = {"p_dy": kind, "p_x": kind, "p_weight": kind, "p_rstd": "*fp32",
                        "p_partial": "*fp32", "CHUNK": "i32", **table,
                        **dict.fromkeys(strides, "i32"), "stride_rstd": "i32"}  # fmt: skip
            made.extend(
                Job(
                    rope_norm_backward_kernel, backward,
                    {**constants, "HEADS": HQ, "WEIGHT_GRAD": weight_grad},
                    capability, warps, aligned=strides,
                )
                for weight_grad in (False, True)
            )  # fmt: skip
    return made


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    made = jobs()
    assert len(made) == 16 * len(CAPABILITIES)
    for job, compiled in zip(made, compile_many(made), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        assert compiled.spills == 0, job


@pytest.mark.gpu
def test_same_bits_twice_and_beyond_2_31_elements() -> None:
    T, HQ, D = (1 << 19) + 3, 32, 128
    q = torch.randn(T, HQ, D, dtype=torch.bfloat16, device="cuda")
    k = torch.randn(T, 1, D, dtype=torch.bfloat16, device="cuda")
    cos, sin = angles(T, D // 2, "cuda")
    tail = slice(T - 5, T)
    truth = reference(*(x[tail].double() for x in (q, k, cos, sin)))
    first, second = rope(q, k, cos, sin), rope(q, k, cos, sin)
    close("rope", "q", first[0][tail], truth[0])
    close("rope", "k", first[1][tail], truth[1])
    assert torch.equal(first[0], second[0])
