"""What attention's kernels share on the device: rows, products, and the visible pairs of a tile."""

import triton
import triton.language as tl

# One line an argument would hide the kernel's order.
# fmt: off

HIDDEN = tl.constexpr(-1.0e30)  # finite: a row whose first block is hidden must not become NaN
LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)


if hasattr(tl, "make_tensor_descriptor"):

    @triton.jit
    def rows_of(p_x, s_row, s_head, T, H: tl.constexpr, D: tl.constexpr, R: tl.constexpr,
                TMA: tl.constexpr):
        """What `load_rows` reads: a descriptor of [T, H * D] in tiles of R rows, or the address."""
        if TMA:
            return tl.make_tensor_descriptor(p_x, [T, H * s_head], [s_row, 1], [R, D])
        else:
            return p_x

else:  # triton 3.0 looks up every name of a kernel, in branches not taken too

    @triton.jit
    def rows_of(p_x, s_row, s_head, T, H: tl.constexpr, D: tl.constexpr, R: tl.constexpr,
                TMA: tl.constexpr):
        """What `load_rows` reads: the address."""
        return p_x


@triton.jit
def load_rows(x, i_row, i_end, i_head, s_row, s_head, o_r, o_d, D: tl.constexpr, TMA: tl.constexpr,
              FULL: tl.constexpr):
    """Rows [R, BLOCK_D] of a head from i_row on; those from i_end on are 0 (TMA: any values)."""
    if TMA:
        return x.load([i_row, i_head * s_head])
    else:
        p = x + (i_row.to(tl.int64) * s_row + i_head.to(tl.int64) * s_head)
        p = p + (o_r[:, None] * s_row + o_d[None, :])
        if FULL:
            if o_d.shape[0] == D:
                return tl.load(p)
            else:
                return tl.load(p, mask=o_d[None, :] < D, other=0.0)
        else:
            m = ((i_row + o_r) < i_end)[:, None]
            if o_d.shape[0] == D:
                return tl.load(p, mask=m, other=0.0)
            else:
                return tl.load(p, mask=m & (o_d[None, :] < D), other=0.0)


@triton.jit
def product(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b in fp32. The interpreter multiplies bf16 by its bits, so there they are "wide"."""
    if PRECISION == "wide":
        return acc + tl.dot(a.to(tl.float32), b.to(tl.float32), input_precision="ieee")
    elif PRECISION == "ieee":
        return tl.dot(a, b, acc, input_precision="ieee")
    else:
        return tl.dot(a, b, acc)


@triton.jit
def scores(a, b, PRECISION: tl.constexpr):
    """a b^T in fp32."""
    if PRECISION == "wide":
        return tl.dot(a.to(tl.float32), tl.trans(b).to(tl.float32), input_precision="ieee")
    elif PRECISION == "ieee":
        return tl.dot(a, tl.trans(b), input_precision="ieee")
    else:
        return tl.dot(a, tl.trans(b))


@triton.jit
def tanh(x):
    """By exp2; saturates without overflow."""
    return 1.0 - 2.0 / (1.0 + tl.exp2(x * (2.0 * LOG2E)))


@triton.jit
def visible(o_query, o_key, o_key_row, i_key_end, WINDOW: tl.constexpr):
    """Which pairs of positions see each other; both are broadcast to the tile's shape."""
    seen = (o_key <= o_query) & (o_key_row < i_key_end)
    if WINDOW > 0:
        seen = seen & (o_query - o_key < WINDOW)
    return seen
