"""What of attention is compiled ahead of time: head dims and features, as the tables configure."""

from __future__ import annotations

from typing import Any

import torch
from aot import Job

from ftlab_kernels import tuning
from ftlab_kernels.attention_config import padded, shape_class

DTYPES = {
    70: ("fp16", "fp32"), 75: ("fp16", "fp32"), 80: ("bf16", "fp32"), 86: ("bf16", "fp32"),
    89: ("bf16", "fp32"), 90: ("bf16", "fp32"),
}  # fmt: skip
CASES = (  # head dim, window, soft-cap, prefix
    (64, 0, False, False),
    (80, 0, False, False),
    (96, 0, False, False),
    (128, 0, False, True),
    (128, 4096, True, True),
    (256, 4096, True, False),
)
_TORCH = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}
_FP32 = ("p_lse", "p_delta")


def jobs(op: str, kernel: Any, capability: int) -> list[Job]:
    """Every case and dtype of one kernel for one capability."""
    return [
        _job(op, kernel, capability, dtype, *case)
        for case in CASES
        for dtype in DTYPES[capability]
    ]


def _job(
    op: str, kernel: Any, capability: int, dtype: str, head_dim: int, window: int, softcap: bool,
    prefix: bool,
) -> Job:  # fmt: skip
    config = dict(tuning.lookup(op, shape_class(head_dim, _TORCH[dtype]), capability))
    options = {name: config.pop(name) for name in ("num_warps", "num_stages")}
    import triton.language as tl

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
