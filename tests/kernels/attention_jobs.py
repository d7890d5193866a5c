"""What of attention is compiled ahead of time: head dims and features, as the tables configure."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from aot import Job

from ftlab_kernels import tuning
from ftlab_kernels.attention_config import padded, shape_class

CASES = (  # head dim, window, soft-cap, prefix
    (64, 0, False, False),
    (96, 0, False, False),
    (128, 4096, True, True),
    (256, 4096, True, False),
)
WIDE = CASES[2]  # compiled for fp32 too
MOST_SPILLS = 512  # bytes, 16-bit operands up to head dim 128; fp32 is for tests and spills more
_TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_FP32 = ("p_lse", "p_delta")


def jobs(op: str, kernel: Any, capability: int) -> list[Job]:
    """Every case of one kernel for one capability, in the 16-bit type that it has, one in fp32."""
    narrow = "bf16" if capability >= 80 else "fp16"
    listed = [_job(op, kernel, capability, narrow, *case) for case in CASES]
    return [*listed, _job(op, kernel, capability, "fp32", *WIDE)]


def spills_much(job: Job, spills: int) -> bool:
    """Whether a 16-bit kernel of a usual head dim keeps too much outside registers."""
    return job.constexprs["D"] <= 128 and job.signature["p_q"] != "*fp32" and spills > MOST_SPILLS


def _job(
    op: str, kernel: Any, capability: int, dtype: str, head_dim: int, window: int, softcap: bool,
    prefix: bool,
) -> Job:  # fmt: skip
    config = dict(tuning.lookup(op, shape_class(head_dim, _TORCH[dtype]), capability))
    options = {name: config.pop(name) for name in ("num_warps", "num_stages")}
    describable = padded(head_dim) == head_dim and hasattr(tl, "make_tensor_descriptor")
    constexprs = {
        "H": 8, "GROUP": 4, "D": head_dim, "BLOCK_D": padded(head_dim), "WINDOW": window,
        "SOFTCAP": softcap, "PREFIX": prefix, "PRECISION": "ieee" if dtype == "fp32" else "native",
        **config, "TMA": config["TMA"] and describable,
    }  # fmt: skip
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
    if name in ("p_tiles", "p_positions"):
        return "*i32"
    if name.startswith("p_"):
        return f"*{dtype}"
    return "fp32" if name in ("scale", "softcap") else "i32"
