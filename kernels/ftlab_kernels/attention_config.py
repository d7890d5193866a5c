"""Host side of attention's launches: what a call compiles to, and its block sizes by capability."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ftlab_kernels import tuning
from ftlab_kernels.attention_layout import LONG, Layout

MAX_HEAD_DIM = 256
_ALIGNED = 16  # bytes, of every address and stride that a tensor descriptor takes


def facts(
    q: Tensor,
    k: Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
    softcap: float | None,
    others: Sequence[Tensor],
) -> dict[str, Any]:
    """Constants that every kernel of one call shares.

    Raises ValueError for tensors that do not fit the layout or each other, or a scale below 0.
    """
    T, H, D = q.shape
    if layout.tokens != T or H % k.shape[1] or not 0 < D <= MAX_HEAD_DIM or scale <= 0:
        raise ValueError(
            f"q {list(q.shape)}, k {list(k.shape)}, {layout.tokens} tokens in the layout, scale "
            f"{scale}: T must agree, heads divide, head_dim be at most {MAX_HEAD_DIM}, and "
            "scale above 0"
        )
    if any(x.stride(2) != 1 for x in (q, k, *others)):
        raise ValueError("the last stride of attention's tensors must be 1")
    return {
        "H": H,
        "GROUP": H // k.shape[1],
        "D": D,
        "BLOCK_D": padded(D),
        "WINDOW": window if window is not None and window < layout.longest else 0,
        "SOFTCAP": softcap is not None,
        "PREFIX": any(span.prefix[1] or span.shared for span in layout.spans),
        "PRECISION": _precision(q.dtype),
    }


def _precision(dtype: torch.dtype) -> str:
    """How products are taken; `product` in attention_tile knows the words."""
    if dtype == torch.float32:
        return "ieee"
    return "wide" if os.environ.get("TRITON_INTERPRET") == "1" else "native"


def lookup(
    op: str, q: Tensor, layout: Layout, streamed: Sequence[Tensor], call: dict[str, Any]
) -> dict[str, Any]:
    """The launch configuration of one kernel.

    Args:
        op: name of the table.
        q: any operand.
        layout: of the batch; segments beyond `LONG` tokens have a class of their own where it pays.
            It was measured on plain causal attention, which alone takes it, and where it uses
            descriptors it serves only what they can describe.
        streamed: what the kernel's loop loads; by tensor descriptors where they can be described.
        call: `facts` of the call.
    """
    name, capability = shape_class(q.shape[2], q.dtype), tuning.capability(q)
    config = tuning.lookup(op, name, capability)
    plain = not (call["WINDOW"] or call["SOFTCAP"] or call["PREFIX"])
    if plain and layout.longest > LONG and f"{name}_long" in tuning.table(op):
        long = tuning.lookup(op, f"{name}_long", capability)
        if not long["TMA"] or describable(streamed):
            config = long
    if config["TMA"]:
        if not describable(streamed):
            return {**config, "TMA": False}
        # Descriptors are made on the device, in memory that triton asks for at the launch. It keeps
        # the answer per thread, and autograd's backward pass has one of its own.
        triton.set_allocator(_workspace)
    return config


def _workspace(size: int, alignment: int, stream: int | None) -> Tensor:
    return torch.empty(size, dtype=torch.int8, device="cuda")


@functools.cache
def shape_class(head_dim: int, dtype: torch.dtype) -> str:
    """Class of the tuning tables: d64, d128, d256, with _fp32 for that dtype."""
    wide = "_fp32" if dtype == torch.float32 else ""
    return f"d{max(padded(head_dim), 64)}{wide}"


@functools.cache
def padded(head_dim: int) -> int:
    """Columns of a tile: the next power of two, at least what a product takes."""
    return max(16, 1 << (head_dim - 1).bit_length())


def describable(tensors: Sequence[Tensor]) -> bool:
    """Whether tensor descriptors can stand for these: aligned, and whole tiles of columns."""
    return hasattr(tl, "make_tensor_descriptor") and all(
        padded(x.shape[2]) == x.shape[2]
        and x.data_ptr() % _ALIGNED == 0
        and x.stride(0) * x.element_size() % _ALIGNED == 0
        and x.stride(1) * x.element_size() % _ALIGNED == 0
        for x in tensors
    )
