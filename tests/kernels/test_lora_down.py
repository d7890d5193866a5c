"""lora_down against its reference, with every dropout mask, and ahead of time for every card."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from aot import CAPABILITIES, SHARED_LIMIT, Job, compile_many
from lora_cases import CASES, case, close, dtypes

from ftlab_kernels import lora_down
from ftlab_kernels.reference import lora_products as reference
from ftlab_kernels.tuning import lookup


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seeded", [False, True])
def test_equals_the_reference(name: str, seeded: bool, device: str) -> None:
    for dtype in dtypes(device):
        c = case(name, device, dtype)
        seeds = c.seeds if seeded else None
        masks = seeds if c.columns.drops_any else None
        room = torch.empty(len(c.x), c.columns.pad + 5, dtype=dtype, device=device)
        u = lora_down.project(c.x, c.a, c.columns, seeds=seeds, out=room[:, 5:])
        exact = torch.empty_like(u)
        reference.project(c.x, c.a, c.columns, masks, exact)
        close(u, exact, dtype, "u")
        parts = lora_down.grad_a_parts(exact, c.x, c.columns, seeds=seeds)
        grad = reference.grad_a(exact, c.x, c.columns, masks)
        for target, rank in enumerate(c.columns.ranks):
            if rank:
                place = c.columns.of(target)
                close(parts.sum(0)[place], grad[place], dtype, f"dA {target}")
        assert torch.equal(parts, lora_down.grad_a_parts(exact, c.x, c.columns, seeds=seeds))


@pytest.mark.usefixtures("interpret", "poisoned")
@pytest.mark.parametrize("name", ["holes", "dropping"])
def test_masked_part_of_dx(name: str, device: str) -> None:
    for dtype in dtypes(device):
        c = case(name, device, dtype)
        ours = c.x.clone()
        theirs = ours.clone()
        v = torch.randn(len(c.x), c.columns.pad).to(device=device, dtype=dtype)
        lora_down.add_masked(ours, v, c.a, c.columns, c.seeds)
        reference.add_masked(theirs, v, c.a, c.columns, c.seeds)
        close(ours, theirs, dtype, "dx")


@pytest.mark.usefixtures("interpret", "poisoned")
def test_some_rows_have_the_masks_of_all(device: str) -> None:
    """What is computed for rows from the 17th on is what all rows give there."""
    for dtype in dtypes(device):
        c = case("dropping", device, dtype)
        start = 17
        rule: dict[str, Any] = {"seeds": c.seeds, "start": start}
        shape = (len(c.x), c.columns.pad)
        whole, part = torch.empty(shape).to(c.x), torch.empty(shape).to(c.x)[start:]
        lora_down.project(c.x, c.a, c.columns, seeds=c.seeds, out=whole)
        lora_down.project(c.x[start:], c.a, c.columns, out=part, **rule)
        close(part, whole[start:], dtype, "u")
        v = torch.randn(shape).to(c.x)
        tail = v.clone()
        tail[:start] = 0
        every = lora_down.grad_a_parts(tail, c.x, c.columns, seeds=c.seeds).sum(0)
        some = lora_down.grad_a_parts(v[start:], c.x[start:], c.columns, **rule).sum(0)
        for target, rank in enumerate(c.columns.ranks):
            if rank:
                place = c.columns.of(target)
                close(some[place], every[place], dtype, "dA")
        ours, theirs = c.x.clone(), c.x[start:].clone()
        lora_down.add_masked(ours, v, c.a, c.columns, c.seeds)
        lora_down.add_masked(theirs, v[start:], c.a, c.columns, c.seeds, start=start)
        close(theirs, ours[start:], dtype, "dx")


@pytest.mark.aot
def test_compiles_for_every_card() -> None:
    jobs = [job for c in CAPABILITIES for block_r in (16, 64) for job in _jobs(c, block_r)]
    for job, compiled in zip(jobs, compile_many(jobs), strict=True):
        assert compiled.shared_bytes <= SHARED_LIMIT[job.capability], job
        # With dropout triton 3.0 keeps Philox's rounds of a whole tile and spills up to 2 KB.
        if job.capability >= 80 and job.constexprs.get("DROPOUT") is False:
            assert compiled.spills <= 64, job


def _jobs(capability: int, block_r: int) -> list[Job]:
    half = "*bf16" if capability >= 80 else "*fp16"
    places = {f"{name}{i}": "i32" for name in ("first", "last") for i in range(3)}
    drops = {f"{name}{i}": "fp32" for name in ("drop", "gain") for i in range(3)}
    shapes = {
        "project": ({"p_x": half, "p_a": half, "p_u": half}, "s_x s_a s_u width ones pad"),
        "grad_a": ({"p_v": half, "p_x": half, "p_part": "*fp32"}, "s_v s_x tokens width"),
        "add_masked": ({"p_dx": half, "p_v": half, "p_a": half}, "s_dx s_v s_a"),
    }
    kernels = {
        "project": lora_down._project_kernel,
        "grad_a": lora_down._grad_a_kernel,
        "add_masked": lora_down._masked_kernel,
    }
    jobs = []
    for op, (pointers, numbers) in shapes.items():
        config = {k: v for k, v in lookup(f"lora_{op}", "*", capability).items() if k != "SPLITS"}
        warps, stages = config.pop("num_warps"), config.pop("num_stages")
        numeric = {name: "i32" for name in ["T", "K", "start", *numbers.split()]}
        signature = {**pointers, "p_seeds": "*i64", **numeric, **places, **drops}
        constants = {"BLOCKS": 1, "BLOCK_R": block_r, "PRECISION": "tf32", **config}
        if op == "project":
            constants["PAD"] = 64
        for dropout in [True] if op == "add_masked" else [False, True]:
            own = {"TARGETS": 3} if op == "add_masked" else {"DROPOUT": dropout}
            aligned = [name for name in (*numeric, *places) if name != "ones"]
            jobs.append(
                Job(kernels[op], signature, {**constants, **own}, capability, warps, stages,
                    aligned=aligned)
            )  # fmt: skip
    return jobs
