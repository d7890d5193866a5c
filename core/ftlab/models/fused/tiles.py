"""Rows of a layer taken some at a time: what one tile reads and writes.

Only attention looks from one row to others. Everything else can be computed for a tile of rows at a
time, through scratch of a tile's size. Dropout masks are those of the row's place among all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from ftlab.models.fused.layer import BoundNorm, Group, Layer
from ftlab.models.fused.layer_forward import Run

Place = Callable[[slice], Tensor]  # from rows to where their values are


def tiles(run: Run) -> Iterator[slice]:
    """The rows of each tile, in order; the last one may be short."""
    shared = run.shared
    try:
        for start in range(0, run.tokens, run.tile):
            shared.first = start
            yield slice(start, min(start + run.tile, run.tokens))
    finally:
        shared.first = 0


def piece(run: Run, name: str, rows: slice, columns: int) -> Tensor:
    """Scratch of that name for a tile: [rows, columns]."""
    most = min(run.tile, run.tokens)
    return run.shared.scratch.get(name, most, columns)[: rows.stop - rows.start]


def place(run: Run, layer: Layer, item: str, columns: int) -> Place:
    """Where the forward pass writes an item: whole if it stays, else as scratch of a tile."""
    if run.storage.stays(layer.index, item):
        whole = run.storage.destination(layer.index, item, run.tokens, columns)
        return lambda rows: whole[rows]
    return lambda rows: piece(run, item, rows, columns)


def normed(run: Run, layer: Layer, group: Group, rows: slice) -> Tensor:
    """The scratch that a norm writes and a group reads: [rows, H + pad]."""
    hidden = layer.sizes.hidden
    both = max(layer.qkv.pad, layer.gate_up.pad)
    return piece(run, "normed", rows, hidden + both)[:, : hidden + group.pad]


def norm(
    run: Run, bound: BoundNorm, x: Tensor, out: Tensor, stream: Tensor | None = None,
    stream_out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """out[:, :H] = norm(x + stream), the sum into `stream_out`; 1 / rms of every row."""
    _, _, rstd = run.ops.rms_norm_forward(
        x, bound.weight.detach(), eps=bound.eps, offset=bound.offset,
        weight_fp32=bound.weight_fp32, residual=stream, out=out[:, : x.shape[1]],
        residual_out=stream_out,
    )  # fmt: skip
    found: Tensor = rstd
    return found


def norm_backward(
    run: Run, bound: BoundNorm, grad: Tensor, h: Tensor, rstd: Tensor, out: Tensor,
    residual: Tensor | None = None,
) -> None:  # fmt: skip
    """out = norm'(grad) at h, plus `residual`; the gradient of its weight is added."""
    _, d_weight = run.ops.rms_norm_backward(
        grad, h, bound.weight.detach(), rstd, offset=bound.offset,
        weight_fp32=bound.weight_fp32, grad_residual=residual, out=out,
        need_weight_grad=bound.trains,
    )  # fmt: skip
    if bound.trains:
        run.shared.gradients.add(bound.weight, d_weight)


def low_rank(run: Run, group: Group, name: str, rows: slice) -> Tensor:
    """Scratch of x A^T of a group, [rows, R]."""
    return piece(run, f"low {name}", rows, group.low)


def project(run: Run, group: Group, name: str, x: Tensor, out: Tensor, rows: slice) -> Tensor:
    """A group of projections of a tile into `out`; returns x A^T."""
    low = low_rank(run, group, name, rows)
    group.forward(run.shared, x, out, low, fresh=True)
    return low
