"""Tensors seen as rows: any leading shape is T, the last axis contiguous, rows maybe strided."""

from __future__ import annotations

from torch import Tensor


def rows_2d(x: Tensor) -> Tensor:
    """`x` [..., H] as [T, H] with a contiguous last axis; a copy only where no view is possible."""
    flat = x.reshape(-1, x.shape[-1])
    return flat if flat.stride(1) == 1 or flat.shape[1] == 1 else flat.contiguous()


def row_stride(x: Tensor) -> int:
    """Elements from one row of `x` [T, H] to the next.

    Raises:
        ValueError: the last axis is not contiguous.
    """
    if x.stride(1) != 1 and x.shape[1] != 1:
        raise ValueError(f"the last axis must be contiguous; strides are {x.stride()}")
    return x.stride(0)
