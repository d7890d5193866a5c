"""Rotary tables: the frequencies of every RoPE kind, and cos and sin at given positions.

With b = theta, R = dim and i = 0, 2, ..., R - 2 the plain frequencies are b^(-i / R).
* linear (Chen 2023): divided by factor. * dynamic NTK: b grows with the longest position.
* yarn (Peng et al. 2023): a ramp between divided and plain ones. * llama3: the same by wavelength.
* longrope (Ding et al. 2024): divided by short or long factors, by the longest position.

transformers keeps the last dynamic base between calls; here the frequencies are a function of the
batch alone (its longest position), because a resumed run must see the same.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from ftlab.models.spec import RopeSpec


def inverse_frequencies(rope: RopeSpec, length: int) -> Tensor:
    """fp32 [dim / 2] on the CPU for a batch whose longest sequence has `length` tokens."""
    if rope.kind == "yarn":
        return _yarn(rope)
    if rope.kind == "llama3":
        return _llama3(rope)
    if rope.kind == "longrope":
        long = length > rope.original_max_positions
        factors = torch.tensor(rope.long_factor if long else rope.short_factor)
        return torch.reciprocal(factors * _wavelengths(rope, rope.theta))
    if rope.kind == "dynamic":
        stretch = rope.factor * max(length, rope.max_positions) / rope.max_positions
        grown = (stretch - (rope.factor - 1)) ** (rope.dim / (rope.dim - 2))
        return torch.reciprocal(_wavelengths(rope, rope.theta * grown))
    plain = torch.reciprocal(_wavelengths(rope, rope.theta))
    return plain / rope.factor if rope.kind == "linear" else plain


def tables(
    rope: RopeSpec, position_ids: Tensor, length: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin, each [T, dim / 2] in `dtype`, computed in fp32 and rounded once.

    Args:
        position_ids: int64 [T].
        length: longest position of the batch plus one.
    """
    frequencies = _frequencies(rope, length if rope.depends_on_length else 0, position_ids.device)
    angles = position_ids.to(torch.float32)[:, None] * frequencies[None, :]
    scaling = rope.attention_scaling
    return (angles.cos() * scaling).to(dtype), (angles.sin() * scaling).to(dtype)


@functools.lru_cache(maxsize=64)
def _frequencies(rope: RopeSpec, length: int, device: torch.device) -> Tensor:
    """`inverse_frequencies` on the device; a copy from the host would be waited for each time."""
    return inverse_frequencies(rope, length).to(device)


def _wavelengths(rope: RopeSpec, base: float) -> Tensor:
    """base^(i / R) for i = 0, 2, ..., the inverse of the plain frequencies."""
    exponents = torch.arange(0, rope.dim, 2, dtype=torch.int64).float() / rope.dim
    return torch.pow(base, exponents)


def _yarn(rope: RopeSpec) -> Tensor:
    """Dimensions that turn often keep their frequency, slow ones are interpolated."""
    wavelengths = _wavelengths(rope, rope.theta)
    low, high = (_turning_dim(rope, turns) for turns in (rope.beta_fast, rope.beta_slow))
    if rope.truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rope.dim - 1)
    width = high - low or 0.001  # a ramp of no width would divide by zero
    ramp = ((torch.arange(rope.dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)
    plain, divided = torch.reciprocal(wavelengths), torch.reciprocal(rope.factor * wavelengths)
    return torch.lerp(plain, divided, ramp)


def _turning_dim(rope: RopeSpec, turns: float) -> float:
    """The dimension that makes `turns` full turns over the original length."""
    ratio = rope.original_max_positions / (turns * 2 * math.pi)
    return rope.dim * math.log(ratio) / (2 * math.log(rope.theta))


def _llama3(rope: RopeSpec) -> Tensor:
    """Short wavelengths stay, long ones are divided by factor, those between are blended."""
    plain = torch.reciprocal(_wavelengths(rope, rope.theta))
    original, low, high = rope.original_max_positions, rope.low_freq_factor, rope.high_freq_factor
    wavelengths = 2 * math.pi / plain
    blend = (original / wavelengths - low) / (high - low)
    blended = (1 - blend) * plain / rope.factor + blend * plain
    scaled = torch.where(wavelengths > original / low, plain / rope.factor, plain)
    between = (wavelengths >= original / high) & (wavelengths <= original / low)
    return torch.where(between, blended, scaled)
