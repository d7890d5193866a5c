"""Philox-4x32-10, bit for bit triton's `tl.rand(seed, offset)`, so that kernels draw the same.

Counter (offset, 0, 0, 0), key (low word, high word of seed), ten rounds:
    c0' = hi(B c2) ^ c1 ^ k0,  c1' = lo(B c2),  c2' = hi(A c0) ^ c3 ^ k1,  c3' = lo(A c0)
    k0 += 0x9E3779B9,  k1 += 0xBB67AE85          (A = 0xD2511F53, B = 0xCD9E8D57, mod 2^32)
A word w becomes a float by folding it as a signed number: (w < 0 ? -w - 1 : w) 4.6566127342e-10.

Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3".
"""

from __future__ import annotations

import torch
from torch import Tensor

_ROUND_A, _ROUND_B = 0xD2511F53, 0xCD9E8D57
_KEY_A, _KEY_B = 0x9E3779B9, 0xBB67AE85
_WORD = 0xFFFFFFFF
_SCALE = 4.6566127342e-10  # triton's, below 2^-31 so that the result stays under 1
_CHUNK = 1 << 15  # counters at a time: the int64 temporaries stay in the cache


def philox(seed: int, counter: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four output words for the counter (counter, 0, 0, 0).

    Args:
        seed: 64-bit key.
        counter: int64 with values in [0, 2^32), any shape.

    Returns:
        four int64 tensors of counter's shape with values in [0, 2^32).
    """
    zero = torch.zeros_like(counter)
    c0, c1, c2, c3 = counter, zero, zero, zero
    k0, k1 = seed & _WORD, (seed >> 32) & _WORD
    for _ in range(10):
        # An int64 product wraps, but its 64 bits are right: shift, then mask the sign away.
        product_a, product_b = c0 * _ROUND_A, c2 * _ROUND_B
        c0 = (product_b >> 32).bitwise_and_(_WORD).bitwise_xor_(c1).bitwise_xor_(k0)
        c2 = (product_a >> 32).bitwise_and_(_WORD).bitwise_xor_(c3).bitwise_xor_(k1)
        c1, c3 = product_b.bitwise_and_(_WORD), product_a.bitwise_and_(_WORD)
        k0, k1 = (k0 + _KEY_A) & _WORD, (k1 + _KEY_B) & _WORD
    return c0, c1, c2, c3


def to_uniform(word: Tensor) -> Tensor:
    """fp32 in [0, 1) from int64 words in [0, 2^32), as triton's `uint_to_uniform_float`."""
    folded = torch.where(word > 0x7FFFFFFF, _WORD - word, word)
    return folded.to(torch.float32) * _SCALE


def uniform(seed: int, count: int, *, start: int = 0, device: torch.device | str = "cpu") -> Tensor:
    """`tl.rand(seed, start + arange(count))`: fp32 [count] in [0, 1).

    Raises ValueError where the counter would pass 2^32.
    """
    if start < 0 or start + count > 1 << 32:
        raise ValueError(f"counters {start} to {start + count} do not fit 32 bits")
    drawn = torch.empty(count, dtype=torch.float32, device=device)
    for first in range(0, count, _CHUNK):
        last = min(first + _CHUNK, count)
        counter = torch.arange(start + first, start + last, dtype=torch.int64, device=device)
        drawn[first:last] = to_uniform(philox(seed, counter)[0])
    return drawn


def mix(*parts: int) -> int:
    """One 63-bit seed from whole numbers (seed, step, micro-batch, site); order matters.

    SplitMix64's finaliser over each part in turn (Steele, Lea and Flood 2014). 63 bits, so that
    the seed passes to a kernel as a signed 64-bit argument.
    """
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & 0xFFFFFFFFFFFFFFFF)) * 0xBF58476D1CE4E5B9 % (1 << 64)
        state = (state ^ (state >> 30)) * 0x94D049BB133111EB % (1 << 64)
        state ^= state >> 31
    return state & 0x7FFFFFFFFFFFFFFF
