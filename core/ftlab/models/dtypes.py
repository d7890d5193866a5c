"""The three floating dtypes by the names that configs and plans use."""

from __future__ import annotations

import torch

DTYPES: dict[str, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


def as_dtype(value: str | torch.dtype) -> torch.dtype:
    """A dtype from "fp32", "bf16", "fp16" or itself. Raises ValueError for anything else."""
    if isinstance(value, torch.dtype):
        return value
    if value not in DTYPES:
        raise ValueError(f"dtype {value!r} is unknown, allowed are {', '.join(DTYPES)}")
    return DTYPES[value]
