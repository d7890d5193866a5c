"""Two tiny Triton kernels for the probe; in a file of their own, since Triton reads their source."""

# mypy: ignore-errors
# (the language of @triton.jit is not Python's)
from __future__ import annotations

try:
    import triton
    import triton.language as tl
except ImportError as missing:  # the probe says so; the doctor itself never imports this file
    raise SystemExit(f"triton cannot be imported: {missing}") from missing


@triton.jit
def silu_forward(p_x, p_y, N, B: tl.constexpr):  # noqa: D103, N803
    o = tl.program_id(0) * B + tl.arange(0, B)
    x = tl.load(p_x + o, mask=o < N)
    tl.store(p_y + o, x * tl.sigmoid(x), mask=o < N)


@triton.jit
def silu_backward(p_x, p_g, N, B: tl.constexpr):  # noqa: D103, N803
    o = tl.program_id(0) * B + tl.arange(0, B)
    x = tl.load(p_x + o, mask=o < N)
    s = tl.sigmoid(x)
    tl.store(p_g + o, s * (1 + x * (1 - s)), mask=o < N)
