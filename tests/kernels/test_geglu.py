"""GeGLU's kernels against the reference in fp64, both forms, in place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from compare import all_close, close, seeded

from ftlab_kernels import tuning
from ftlab_kernels.geglu import (
    geglu,
    geglu_backward,
    geglu_backward_kernel,
    geglu_forward,
    geglu_forward_kernel,
)
from ftlab_kernels.reference.geglu import geglu as reference

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def truth(
    gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor, form: Any
) -> dict[str, torch.Tensor]:
    gate, up = (x.double().detach().requires_grad_() for x in (gate, up))
    out = reference(gate, up, form)
    d_gate, d_up = torch.autograd.grad(out, [gate, up], grad.double())
    return {"out": out.detach(), "d_gate": d_gate, "d_up": d_up}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.parametrize("shape", [(1, 8), (3, 63), (2, 5, 500), (7, 1000)])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_output_and_gradients(
    shape: tuple[int, ...], form: Any, dtype: torch.dtype, device: str
) -> None:
    gate, up, grad = (seeded(*shape, dtype=dtype, device=device, seed=s) for s in range(3))
    gate = 3 * gate
    expected = truth(gate, up, grad, form)
    gate.requires_grad_()
    up.requires_grad_()
    out = geglu(gate, up, form)
    d_gate, d_up = torch.autograd.grad(out, [gate, up], grad)
    close("geglu", "out", out.detach(), expected.pop("out"))
    all_close("geglu", {"d_gate": d_gate, "d_up": d_up}, expected, gradient=True)


@pytest.mark.parametrize("form", ["none", "tanh"])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_halves_of_one_buffer_in_place(form: Any, device: str) -> None:
    both = seeded(5, 2 * 72, dtype=torch.float32, device=device)
    gate, up = both[:, :72], both[:, 72:]
    grad = seeded(5, 72, dtype=torch.float32, device=device, seed=1)
    expected = truth(gate, up, grad, form)
    out = geglu_forward(gate, up, approximate=form)
    y = torch.empty_like(grad)
    d_gate, d_up = geglu_backward(grad, gate, up, approximate=form, d_gate=gate, d_up=up, y=y)
    assert torch.equal(y, out)
    all_close("geglu", {"out": out, "d_gate": d_gate, "d_up": d_up}, expected)


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ValueError, match="'sigmoid'; allowed: none, tanh"):
        geglu(torch.ones(2), torch.ones(2), "sigmoid")  # type: ignore[arg-type]


def jobs() -> list[Job]:
    made = []
    for capability in CAPABILITIES:
        kind = "*bf16" if capability >= 80 else "*fp16"
        for kernel, name in (
            (geglu_forward_kernel, "forward"),
            (geglu_backward_kernel, "backward"),
        ):
            pointers = ["p_gate", "p_up", "p_out"]
            if name == "backward":
                pointers += ["p_grad", "p_d_gate", "p_d_up"]
            strides = ["stride_" + pointer[2:] for pointer in pointers]
            signature = {
                **dict.fromkeys(pointers, kind),
                **dict.fromkeys([*strides, "T", "I"], "i32"),
            }
            for tanh in (False, True):
                config = dict(tuning.lookup("geglu", name, capability))
                warps = config.pop("num_warps")
                flags = {"TANH": tanh, **({"WITH_OUT": True} if name == "backward" else {})}
                made.append(
                    Job(
                        kernel, signature, {**flags, **config}, capability, warps,
                        aligned=("I", *strides),
                    )
                )  # fmt: skip
    return made


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    made = jobs()
    assert len(made) == 4 * len(CAPABILITIES)
    for job, compiled in zip(made, compile_many(made), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        assert compiled.spills == 0, job


@pytest.mark.gpu
def test_same_bits_twice() -> None:
    gate, grad = (torch.randn(4096, 14336, dtype=torch.bfloat16, device="cuda") for _ in range(2))
    first, second = (geglu_backward(grad, gate, gate) for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, second, strict=True))
