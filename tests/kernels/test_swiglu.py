"""SwiGLU's kernels against the reference in fp64, strided and in place."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from compare import all_close, close, seeded

from ftlab_kernels import dispatch, tuning
from ftlab_kernels.reference.swiglu import swiglu as reference
from ftlab_kernels.swiglu import (
    swiglu,
    swiglu_backward,
    swiglu_backward_kernel,
    swiglu_forward,
    swiglu_forward_kernel,
)

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def truth(gate: torch.Tensor, up: torch.Tensor, grad: torch.Tensor) -> dict[str, torch.Tensor]:
    gate, up = (x.double().detach().requires_grad_() for x in (gate, up))
    out = reference(gate, up)
    out.backward(grad.double())
    assert gate.grad is not None
    assert up.grad is not None
    return {"out": out.detach(), "d_gate": gate.grad, "d_up": up.grad}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 63), (2, 5, 500), (7, 1000), (2, 4096)])
@pytest.mark.usefixtures("interpret", "poisoned")
def test_output_and_gradients(shape: tuple[int, ...], dtype: torch.dtype, device: str) -> None:
    gate, up, grad = (seeded(*shape, dtype=dtype, device=device, seed=s) for s in range(3))
    gate = 3 * gate
    expected = truth(gate, up, grad)
    gate.requires_grad_()
    up.requires_grad_()
    out = swiglu(gate, up)
    out.backward(grad)
    close("swiglu", "out", out.detach(), expected.pop("out"))
    assert gate.grad is not None
    assert up.grad is not None
    all_close("swiglu", {"d_gate": gate.grad, "d_up": up.grad}, expected, gradient=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.usefixtures("interpret", "poisoned")
def test_halves_of_one_buffer_in_place(dtype: torch.dtype, device: str) -> None:
    both = seeded(5, 2 * 72, dtype=dtype, device=device)
    gate, up = both[:, :72], both[:, 72:]
    grad = seeded(5, 72, dtype=dtype, device=device, seed=1)
    expected = truth(gate, up, grad)
    y = torch.empty_like(grad)
    out = swiglu_forward(gate, up)
    d_gate, d_up = swiglu_backward(grad, gate, up, d_gate=gate, d_up=up, y=y)
    assert d_gate.data_ptr() == both.data_ptr()
    assert torch.equal(y, out)
    all_close("swiglu", {"out": out, "d_gate": d_gate, "d_up": d_up}, expected)


@pytest.mark.usefixtures("interpret")
def test_large_gates_neither_overflow_nor_make_nan(device: str) -> None:
    gate = torch.tensor([[-200.0, -90.0, 0.0, 90.0, 200.0]], device=device)
    one = torch.ones_like(gate)
    d_gate, _ = swiglu_backward(one, gate, one)
    assert torch.equal(swiglu_forward(gate, one), torch.where(gate < -80, gate * 0, gate))
    assert torch.equal(d_gate, torch.where(gate == 0, 0.5, (gate > 0).float()))


def test_fp64_takes_the_reference() -> None:
    gate = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    dispatch.reset()
    assert torch.autograd.gradcheck(swiglu, (gate, gate.detach() + 1))
    assert {line["choice"] for line in dispatch.report()} == {"reference"}


def jobs() -> list[Job]:
    forward = {"p_gate": "*", "p_up": "*", "p_out": "*"}
    backward = {**forward, "p_grad": "*", "p_d_gate": "*", "p_d_up": "*"}
    made = []
    for capability in CAPABILITIES:
        kind = "*bf16" if capability >= 80 else "*fp16"
        for kernel, pointers, name in (
            (swiglu_forward_kernel, forward, "forward"),
            (swiglu_backward_kernel, backward, "backward"),
        ):
            config = dict(tuning.lookup("swiglu", name, capability))
            sizes = {"T": "i32", "I": "i32"}
            strides = {"stride_" + pointer[2:]: "i32" for pointer in pointers}
            flags = {"WITH_OUT": True} if name == "backward" else {}
            warps = config.pop("num_warps")
            made.append(
                Job(
                    kernel, {**dict.fromkeys(pointers, kind), **sizes, **strides},
                    {**flags, **config}, capability, warps, aligned=("I", *strides),
                )
            )  # fmt: skip
    return made


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    made = jobs()
    assert len(made) == 2 * len(CAPABILITIES)
    for job, compiled in zip(made, compile_many(made), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability]
        assert compiled.spills == 0, job


@pytest.mark.gpu
def test_same_bits_twice_and_beyond_2_31_elements() -> None:
    rows, wide = (1 << 19) + 3, 4096  # 2^31 elements and three rows: 4.3 GB each
    gate = torch.randn(rows, wide, dtype=torch.bfloat16, device="cuda")
    grad = torch.randn_like(gate)
    out = swiglu_forward(gate, gate)
    tail = slice(rows - 5, rows)
    expected = truth(gate[tail], gate[tail], grad[tail])
    close("swiglu", "out", out[tail], expected["out"])
    d_gate, d_up = swiglu_backward(grad, gate, gate)
    close("swiglu", "d_gate", d_gate[tail], expected["d_gate"])
    again = swiglu_backward(grad, gate, gate)
    assert torch.equal(d_gate, again[0])
    assert torch.equal(d_up, again[1])
