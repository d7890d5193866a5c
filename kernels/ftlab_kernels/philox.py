"""The dropout mask inside kernels: `reference.philox`'s bits, one counter an element.

    keep[e] = uniform(seed, e) >= p,   uniform(seed, e) = tl.rand(seed, e) with a 32-bit counter

e is the element's flat index. `reference.philox.uniform` draws the same numbers on any device.
"""

import triton
import triton.language as tl


@triton.jit
def keep_mask(seed, i_flat, p):
    """True where the element of flat index `i_flat` (int64, below 2^32) survives."""
    return tl.rand(seed, i_flat.to(tl.uint32)) >= p
