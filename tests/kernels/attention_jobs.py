"""What of attention is compiled ahead of time: head dims and features, as the tables configure."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from aot import Job

from ftlab_kernels import dispatch, tuning
from ftlab_kernels.attention_config import padded, shape_class

CASES = (  # head dim, window, soft-cap, prefix
    (64, 0, False, False),
    (96, 0, False, False),
    (128, 4096, True, True),
    (256, 4096, True, False),
)
WIDE = CASES[2]  # compiled for fp32 too
PLAIN = (128, 0, False, False)  # all that the class of long segments serves
LONG = "d128_long"  # class of long segments, where a table has it
DESCRIBES = hasattr(tl, "make_tensor_descriptor")
MOST_SPILLS = 512  # bytes, where tensor cores take 16-bit operands and the head dim is at most 128
_TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_FP32 = ("p_lse", "p_delta")


def jobs(op: str, kernel: Any, capability: int) -> list[Job]:
    """Every case of one kernel in a card's 16-bit type, one in fp32, one for long segments."""
    narrow = "bf16" if capability >= 80 else "fp16"
    triton = dispatch.triton_version()
    assert triton is not None
    if dispatch.too_old("attention", divmod(capability, 10), triton, False):
        return [_job(op, kernel, capability, narrow, *CASES[0])]  # it never runs, but it compiles
    listed = [_job(op, kernel, capability, narrow, *case) for case in CASES]
    listed.append(_job(op, kernel, capability, "fp32", *WIDE))
    long = LONG in tuning.table(op) and (
        DESCRIBES or not tuning.lookup(op, LONG, capability)["TMA"]
    )
    if long:
        listed.append(_job(op, kernel, capability, narrow, *PLAIN, name=LONG))
    assert len(listed) == len(CASES) + 1 + long
    return listed


def spills_much(job: Job, spills: int) -> bool:
    """Whether a kernel that is meant to be fast keeps too much outside registers.

    fp32 is for tests. triton 3.6 has no tensor cores below 8.0, and its products there live in
    registers: V100 and T4 are served by the stack with triton 3.0.
    """
    fast = job.signature["p_q"] != "*fp32" and job.constexprs["D"] <= 128 and job.capability >= 80
    return fast and spills > MOST_SPILLS


def _job(
    op: str, kernel: Any, capability: int, dtype: str, head_dim: int, window: int, softcap: bool,
    prefix: bool, name: str | None = None,
) -> Job:  # fmt: skip
    name = name or shape_class(head_dim, _TORCH[dtype])
    config = dict(tuning.lookup(op, name, capability))
    options = {name: config.pop(name) for name in ("num_warps", "num_stages")}
    describable = padded(head_dim) == head_dim and DESCRIBES
    constexprs = {
        "H": 8, "GROUP": 4, "D": head_dim, "BLOCK_D": padded(head_dim), "WINDOW": window,
        "SOFTCAP": softcap, "PREFIX": prefix, "PRECISION": "ieee" if dtype == "fp32" else "native",
        **config, "TMA": config["TMA"] and describable,
    }  # fmt: skip
    if "HEADS" in kernel.arg_names:
        constexprs["HEADS"] = constexprs["GROUP"]
    signature = {}
    for name in kernel.arg_names:
        if name == "p_positions" and not (window and prefix):
            constexprs[name] = None
        elif name not in constexprs:
            signature[name] = _kind(name, dtype)
    strides = [name for name in signature if name.startswith("s_")]
    return Job(kernel, signature, constexprs, capability, **options, aligned=strides)


def _kind(name: str, dtype: str) -> str:
    if name in _FP32:
        return "*fp32"
    if name in ("p_tiles", "p_order", "p_positions"):
        return "*i32"
    if name.startswith("p_"):
        return f"*{dtype}"
    return "fp32" if name in ("scale", "softcap") else "i32"
