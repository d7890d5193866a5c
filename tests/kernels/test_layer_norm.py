"""LayerNorm's kernels against the reference in fp64: bias or none, residual, every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from compare import all_close, close, seeded

from ftlab_kernels import tuning
from ftlab_kernels.layer_norm import (
    layer_norm,
    layer_norm_backward,
    layer_norm_backward_kernel,
    layer_norm_forward,
    layer_norm_forward_kernel,
)
from ftlab_kernels.reference.layer_norm import layer_norm as reference
from ftlab_kernels.rms_norm import width

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
EPS = 1e-5


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 8), (3, 63), (2, 5, 500), (37, 64), (3, 1000)])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_output_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, bias: bool, residual: bool, device: str
) -> None:
    H = shape[-1]
    inputs = {
        "x": 1 + seeded(*shape, dtype=dtype, device=device),
        "weight": 1 + seeded(H, dtype=dtype, device=device, seed=1) / 4,
    }
    if bias:
        inputs["bias"] = seeded(H, dtype=dtype, device=device, seed=2)
    extra = seeded(*shape, dtype=dtype, device=device, seed=3) if residual else None
    inputs = {name: value.detach().requires_grad_() for name, value in inputs.items()}
    grads = [seeded(*shape, dtype=dtype, device=device, seed=s) for s in (4, 5)]
    out = layer_norm(
        inputs["x"], inputs["weight"], inputs.get("bias"), EPS, residual=extra
    )  # fmt: skip
    outputs = list(out) if residual else [out]
    gradients = torch.autograd.grad(outputs, list(inputs.values()), grads[: len(outputs)])
    wide: dict[str, Any] = {name: value.detach().double() for name, value in inputs.items()}
    if extra is not None:
        wide["x"] = (inputs["x"] + extra).detach().double()  # the truth starts at the rounded sum
    wide = {name: value.requires_grad_() for name, value in wide.items()}
    true = reference(wide["x"], wide["weight"], wide.get("bias"), EPS)
    truths = [true, wide["x"] * 1] if residual else [true]
    sent = [grad.double() for grad in grads[: len(outputs)]]
    true_gradients = torch.autograd.grad(truths, list(wide.values()), sent)
    for name, got, expected in zip(("y", "h"), outputs, truths, strict=False):
        close("layer_norm", name, got.detach(), expected.detach())
    all_close(
        "layer_norm", dict(zip(inputs, gradients, strict=True)),
        dict(zip(wide, true_gradients, strict=True)), gradient=True,
    )  # fmt: skip


@pytest.mark.usefixtures("interpret", "poisoned")
def test_launchers_work_in_place(device: str) -> None:
    x, residual, grad = (
        seeded(6, 96, dtype=torch.float32, device=device, seed=s) for s in range(3)
    )
    weight = seeded(96, dtype=torch.float32, device=device, seed=3)
    first = layer_norm_forward(x, weight, None, eps=EPS, residual=residual)
    truth = layer_norm_backward(grad, *(first[1], weight, *first[2:]), grad_residual=x.clone())
    kept = x.clone()
    second = layer_norm_forward(x, weight, None, eps=EPS, residual=residual, out=x,
                                residual_out=residual)  # fmt: skip
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
    got = layer_norm_backward(grad, second[1], weight, *second[2:], grad_residual=kept, out=kept)
    assert torch.equal(got[0], truth[0])
    assert got[1] is None
    assert got[2] is None


def jobs() -> list[Job]:
    made = []
    for capability in CAPABILITIES:
        kind = "*bf16" if capability >= 80 else "*fp16"
        for H in (64, 4096, 8192):
            for name in ("forward", "backward", "weight"):
                config = dict(tuning.lookup("layer_norm", f"{name}_{width(H)}", capability))
                warps, stages = config.pop("num_warps"), config.pop("num_stages")
                constants = {"RESIDUAL": True, "H": H, "BLOCK": width(H), **config}
                rest = {"p_mean": "*fp32", "p_rstd": "*fp32", "T": "i32"}
                if name == "forward":
                    kernel = layer_norm_forward_kernel
                    pointers = ["p_x", "p_residual", "p_weight", "p_bias", "p_y", "p_h"]
                    strides = ["stride_x", "stride_residual", "stride_y", "stride_h"]
                    rest["eps"] = "fp32"
                    constants["BIAS"] = True
                else:
                    kernel = layer_norm_backward_kernel
                    pointers = ["p_grad", "p_h", "p_weight", "p_grad_residual", "p_dx"]
                    strides = ["stride_grad", "stride_h", "stride_grad_residual", "stride_dx"]
                    rest |= {"p_partial": "*fp32", "p_partial_bias": "*fp32", "CHUNK": "i32"}
                    constants["WEIGHT_GRAD"] = name == "weight"
                signature = {
                    **dict.fromkeys(pointers, kind),
                    **dict.fromkeys(strides, "i32"),
                    **rest,
                }
                made.append(
                    Job(kernel, signature, constants, capability, warps, stages, aligned=strides)
                )
    return made


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    made = jobs()
    assert len(made) == 9 * len(CAPABILITIES)
    for job, compiled in zip(made, compile_many(made), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        assert compiled.spills <= (256 if job.constexprs.get("WEIGHT_GRAD") else 0), job


@pytest.mark.gpu
def test_same_bits_twice() -> None:
    x, grad = (torch.randn(8192, 4096, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    weight = torch.randn(4096, dtype=torch.bfloat16, device="cuda")
    _, h, mean, rstd = layer_norm_forward(x, weight, weight, eps=EPS)
    first, second = (
        layer_norm_backward(grad, h, weight, mean, rstd, need_weight_grad=True) for _ in range(2)
    )
    assert all(
        one is not None and two is not None and torch.equal(one, two)
        for one, two in zip(first, second, strict=True)
    )
