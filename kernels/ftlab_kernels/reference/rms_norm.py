"""RMSNorm reference, with the rounding order of each family.

    r = 1 / sqrt(mean(x^2) + eps)          over the last axis, in fp32
    Llama, Mistral, Qwen, Phi:   y = (offset + weight) * round(x r)
    Gemma:                       y = round(x r (offset + weight))     (fp32 weight product)

Zhang and Sennrich 2019, "Root Mean Square Layer Normalization".
"""

from __future__ import annotations

from typing import overload

import torch
from torch import Tensor


@overload
def rms_norm(
    x: Tensor, weight: Tensor, eps: float, offset: float = ..., *, weight_fp32: bool = ...,
    residual: None = ...,
) -> Tensor: ...  # fmt: skip


@overload
def rms_norm(
    x: Tensor, weight: Tensor, eps: float, offset: float = ..., *, weight_fp32: bool = ...,
    residual: Tensor,
) -> tuple[Tensor, Tensor]: ...  # fmt: skip


@overload
def rms_norm(
    x: Tensor, weight: Tensor, eps: float, offset: float = ..., *, weight_fp32: bool = ...,
    residual: Tensor | None,
) -> Tensor | tuple[Tensor, Tensor]: ...  # fmt: skip


def rms_norm(
    x: Tensor, weight: Tensor, eps: float, offset: float = 0.0, *, weight_fp32: bool = False,
    residual: Tensor | None = None,
) -> Tensor | tuple[Tensor, Tensor]:  # fmt: skip
    """Normalise the last axis of `x` [..., H] by its root mean square and scale it.

    Args:
        x: [..., H], any floating dtype; statistics are taken in fp32 (fp64 for fp64).
        weight: [H], any floating dtype.
        eps: added to the mean square.
        offset: added to the weight (1.0 for Gemma).
        weight_fp32: multiply by the weight before rounding to x's dtype (Gemma) instead of after.
        residual: [..., H], added to x first; the sum h is rounded to x's dtype.

    Returns:
        [..., H] in x's dtype; with a residual, that and h.
    """
    if residual is not None:
        h = x + residual
        return rms_norm(h, weight, eps, offset, weight_fp32=weight_fp32), h
    wide = torch.promote_types(x.dtype, torch.float32)
    values = x.to(wide)
    normed = values * torch.rsqrt(values.pow(2).mean(-1, keepdim=True) + eps)
    if weight_fp32:
        return (normed * (weight.to(wide) + offset)).to(x.dtype)
    scale = weight.to(x.dtype)
    return normed.to(x.dtype) * (scale + offset if offset else scale)
