"""lora_up against its reference: v and dB of every target, several blocks of tokens a program."""

from __future__ import annotations

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from lora_cases import CASES, case, close, dtypes

from ftlab_kernels import dispatch, lora_up, tuning
from ftlab_kernels.reference import lora_products as reference


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("parts", [1, 3])
def test_equals_the_reference(name: str, parts: int, device: str) -> None:
    config = dict(tuning.lookup("lora_up", "*", 0))
    for dtype in dtypes(device):
        c = case(name, device, dtype, tokens=70)
        u = torch.empty(len(c.x), c.columns.pad, dtype=dtype, device=device)
        reference.project(c.x, c.a, c.columns, None, u)
        v, exact = torch.empty_like(u), torch.empty_like(u)
        features = config["FEATURES"] // (4 if dtype == torch.float32 else 1)
        bounds = [*c.rows, *[c.rows[-1]] * (4 - len(c.rows))]
        programs = lora_up._splits(bounds, c.columns, features)[-1]
        with tuning.override("lora_up", {**config, "PROGRAMS": programs * parts}):
            grads = lora_up.up(c.dy, c.b, u, c.rows, c.columns, v=v)
            again = torch.empty_like(v)
            lora_up.up(c.dy, c.b, u, c.rows, c.columns, v=again)
        assert len(grads) == parts
        assert torch.equal(v, again)
        grad = reference.up(c.dy, c.b, u, c.rows, c.columns, exact)
        close(v, exact, dtype, "v")
        for target, rank in enumerate(c.columns.ranks):
            part = slice(c.rows[target], c.rows[target + 1])
            if rank:
                close(grads.sum(0)[part, :rank], grad[part, :rank], dtype, f"dB {target}")


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    jobs = [job for capability in CAPABILITIES for job in _jobs(capability)]
    for job, compiled in zip(jobs, compile_many(jobs), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability], job
        if job.capability >= 80 and job.signature.get("p_dy") != "*fp32":  # fp32 is for tests
            assert compiled.spills <= 128, job


def _jobs(capability: int) -> list[Job]:
    half = "*bf16" if capability >= 80 else "*fp16"
    places = [f"{name}{i}" for name in ("first", "last") for i in range(3)]
    names = ["T", "N", "s_dy", "s_b", "s_u", "R", "tokens", "row0", "row1", "row2", "row3"]
    names += ["split1", "split2"]
    sums = ["T", "R", "s_part", "s_v", "width", "pad", "split1", "split2", "split3"]
    made = []
    triton = dispatch.triton_version()
    assert triton is not None
    kinds = [(16, half), (64, half), (16, "*fp32"), (64, "*fp32")]
    if dispatch.too_old("lora_linear", divmod(capability, 10), triton, False):
        kinds = kinds[:1]  # it never runs, but it compiles
    for rank, dtype in kinds:
        probe = torch.empty(4096, 1, dtype=torch.float32 if dtype == "*fp32" else torch.float16)
        with tuning.override("lora_up", tuning.lookup("lora_up", "t_4096", capability)):
            config = lora_up._config(probe, rank)
        sizes = {name: config[name] for name in ("FEATURES", "BLOCK_T", "BLOCK_R")}
        up = {"p_dy": dtype, "p_b": dtype, "p_u": dtype, "p_v": "*fp32", "p_db": "*fp32"}
        made.append(Job(
            lora_up._up_kernel, {**up, **dict.fromkeys([*names, *places], "i32")},
            {**sizes, "PRECISION": "ieee" if dtype == "*fp32" else "tf32"}, capability,
            config["num_warps"], config["num_stages"],
            aligned=[n for n in [*names, *places] if "split" not in n],
        ))  # fmt: skip
    made.append(Job(
        lora_up._sum_v_kernel,
        {"p_part": "*fp32", "p_v": half, **dict.fromkeys([*sums, *places], "i32")},
        {"PAD": 64, "UNROLL": lora_up.UNROLL, "BLOCK_T": 32, "BLOCK_R": 16}, capability, 4, 2,
        aligned=[n for n in [*sums, *places] if "split" not in n],
    ))  # fmt: skip
    return made
