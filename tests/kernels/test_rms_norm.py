"""RMSNorm's kernels against the reference in fp64: every family's rounding, residual, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from compare import all_close, close, seeded

from ftlab_kernels import tuning
from ftlab_kernels.reference.rms_norm import rms_norm as reference
from ftlab_kernels.rms_norm import (
    rms_norm,
    rms_norm_backward,
    rms_norm_backward_kernel,
    rms_norm_forward,
    rms_norm_forward_kernel,
    width,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
FAMILIES = [{}, {"offset": 1.0}, {"offset": 1.0, "weight_fp32": True}]
EPS = 1e-5


def leaves(*shape: int, dtype: torch.dtype, device: str) -> dict[str, torch.Tensor]:
    made = {
        "x": seeded(*shape, dtype=dtype, device=device),
        "weight": 1 + seeded(shape[-1], dtype=dtype, device=device, seed=1) / 4,
        "residual": seeded(*shape, dtype=dtype, device=device, seed=2),
    }
    return {name: value.detach().requires_grad_() for name, value in made.items()}


def run(
    op: Any, inputs: dict[str, torch.Tensor], grads: list[torch.Tensor], family: dict[str, Any]
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    out = op(inputs["x"], inputs["weight"], EPS, residual=inputs.get("residual"), **family)
    outputs = [out] if isinstance(out, torch.Tensor) else list(out)
    gradients = torch.autograd.grad(outputs, list(inputs.values()), grads[: len(outputs)])
    names = ["y", "h"][: len(outputs)]
    return (
        {name: value.detach() for name, value in zip(names, outputs, strict=True)},
        dict(zip(inputs, gradients, strict=True)),
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 8), (3, 63), (2, 5, 500), (37, 64), (3, 1000), (2, 4096)])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_output_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, family: dict[str, Any], residual: bool, device: str
) -> None:
    inputs = leaves(*shape, dtype=dtype, device=device)
    if not residual:
        del inputs["residual"]
    grads = [seeded(*shape, dtype=dtype, device=device, seed=s) for s in (3, 4)]
    outputs, gradients = run(rms_norm, inputs, grads, family)
    wide = {name: value.detach().double().requires_grad_() for name, value in inputs.items()}
    if residual:  # the kernel's truth is the rounded sum
        h = (inputs["x"] + inputs["residual"]).detach()
        wide = {"x": h.double(), "weight": wide["weight"], "residual": h.double() * 0}
        wide = {name: value.detach().requires_grad_() for name, value in wide.items()}
    truth, true_gradients = run(reference, wide, [grad.double() for grad in grads], family)
    all_close("rms_norm", outputs, truth)
    summed, true_sum = gradients.pop("weight"), true_gradients.pop("weight")
    close("rms_norm", "dweight", summed[None], true_sum[None], gradient=True)
    all_close("rms_norm", gradients, true_gradients, gradient=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("interpret", "poisoned")
def test_launchers_work_in_place_on_strided_rows(dtype: torch.dtype, device: str) -> None:
    buffer = seeded(6, 3 * 96, dtype=dtype, device=device)
    x, residual, grad = buffer[:, :96], buffer[:, 96:192], buffer[:, 192:]
    weight = seeded(96, dtype=dtype, device=device, seed=5)
    sent = seeded(6, 96, dtype=dtype, device=device, seed=6)
    copies = [value.clone() for value in (x, residual, grad)]
    y, h, rstd = rms_norm_forward(copies[0], weight, eps=EPS, residual=copies[1])
    y2, h2, rstd2 = rms_norm_forward(
        x, weight, eps=EPS, residual=residual, out=x, residual_out=residual
    )
    assert torch.equal(y, y2)
    assert torch.equal(h, h2)
    assert h2.data_ptr() == residual.data_ptr()
    assert torch.equal(rstd, rstd2)
    dx, dweight = rms_norm_backward(
        copies[2], h, weight, rstd, grad_residual=sent, need_weight_grad=True
    )
    dx2, nothing = rms_norm_backward(grad, h2, weight, rstd, grad_residual=sent, out=grad)
    assert nothing is None
    assert dweight is not None
    assert dweight.dtype is torch.float32
    close("rms_norm", "dx in place", dx2, dx.double(), gradient=True)
    again = rms_norm_forward(h, weight, eps=EPS)[0]
    assert torch.equal(again, y)


@pytest.mark.usefixtures("interpret", "poisoned")
def test_weight_gradient_over_many_programs(device: str) -> None:
    inputs = leaves(5000, 16, dtype=torch.float32, device=device)
    del inputs["residual"]
    grads = [seeded(5000, 16, dtype=torch.float32, device=device, seed=3)]
    _, gradients = run(rms_norm, inputs, grads, {})
    wide = {name: value.detach().double().requires_grad_() for name, value in inputs.items()}
    _, truth = run(reference, wide, [grads[0].double()], {})
    close("rms_norm", "dweight", gradients["weight"][None], truth["weight"][None], gradient=True)


def jobs() -> list[Job]:
    made = []
    for capability in CAPABILITIES:
        kind = "*bf16" if capability >= 80 else "*fp16"
        for H in (64, 4096, 5120, 16384):
            for name in ("forward", "backward", "weight"):
                config = dict(tuning.lookup("rms_norm", f"{name}_{width(H)}", capability))
                warps = config.pop("num_warps")
                stages = config.pop("num_stages")
                constants = {
                    "OFFSET": 0.0, "WEIGHT_FP32": False, "RESIDUAL": True, "H": H,
                    "BLOCK": width(H), **config,
                }  # fmt: skip
                if name == "forward":
                    kernel = rms_norm_forward_kernel
                    pointers = ["p_x", "p_residual", "p_weight", "p_y", "p_h"]
                    strides = ["stride_x", "stride_residual", "stride_y", "stride_h"]
                    rest = {"p_rstd": "*fp32", "T": "i32", "eps": "fp32"}
                else:
                    kernel = rms_norm_backward_kernel
                    pointers = ["p_grad", "p_h", "p_weight", "p_grad_residual", "p_dx"]
                    strides = ["stride_grad", "stride_h", "stride_grad_residual", "stride_dx"]
                    rest = {"p_rstd": "*fp32", "p_partial": "*fp32", "T": "i32", "CHUNK": "i32"}
                    constants["WEIGHT_GRAD"] = name == "weight"
                signature = {**dict.fromkeys(pointers, kind), **dict.fromkeys(strides, "i32")}
                made.append(
                    Job(
                        kernel, {**signature, **rest}, constants, capability, warps, stages,
                        aligned=strides,
                    )
                )  # fmt: skip
    return made


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    made = jobs()
    assert len(made) == 12 * len(CAPABILITIES)
    for job, compiled in zip(made, compile_many(made), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        sums_wide_rows = job.constexprs.get("WEIGHT_GRAD") and job.constexprs["H"] > 2048
        assert compiled.spills <= (256 if sums_wide_rows else 0), job


@pytest.mark.gpu
@pytest.mark.parametrize("H", [64, 576, 4096, 16384])
def test_same_bits_twice(H: int) -> None:
    inputs = leaves(8192, H, dtype=torch.bfloat16, device="cuda")
    grads = [seeded(8192, H, dtype=torch.bfloat16, device="cuda", seed=s) for s in (3, 4)]
    first, second = (run(rms_norm, inputs, grads, {}) for _ in range(2))
    for one, two in zip(first, second, strict=True):
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.gpu
def test_beyond_2_31_elements() -> None:
    rows, wide = (1 << 19) + 3, 4096
    x = torch.randn(rows, wide, dtype=torch.bfloat16, device="cuda")
    weight = torch.ones(wide, dtype=torch.bfloat16, device="cuda")
    y, h, rstd = rms_norm_forward(x, weight, eps=EPS)
    tail = slice(rows - 5, rows)
    close("rms_norm", "y", y[tail], reference(x[tail].double(), weight.double(), EPS))
    dx, _ = rms_norm_backward(y, h, weight, rstd)
    small, _ = rms_norm_backward(y[tail], h[tail], weight, rstd[tail])
    assert torch.equal(dx[tail], small)
