"""The backward pass of a layer some rows at a time; the forward pass is `tiled_forward`.

The gradient of the residual stream is changed in place, tile by tile; gradients of parameters are
summed over the tiles in order. x A^T, which without tiles is kept, is made again: over all layers
it would weigh as much as two residual streams. Formulas are those of `layer_backward`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab.models.fused import layer_forward as whole
from ftlab.models.fused import tiled_forward as ahead
from ftlab.models.fused.layer import BoundNorm, Group, Layer
from ftlab.models.fused.layer_forward import Run
from ftlab.models.fused.tiled_attention import attention_backward, room_columns
from ftlab.models.fused.tiles import (
    Place,
    low_rank,
    norm,
    norm_backward,
    normed,
    piece,
    project,
    tiles,
)


def tiled_backward(run: Run, layer: Layer, grad: Tensor, *, to_input: bool) -> None:
    """Backward through one layer.

    Args:
        grad: [T, H], the gradient of the layer's result and, when this returns, of its input.
        to_input: False at a first layer whose input nobody trains.
    """
    made = _Again(run, layer)
    run.tell(layer.index, "result", grad)
    _mlp(run, layer, made.middle(), grad)
    run.tell(layer.index, "stream before the MLP", grad)
    _attention(run, layer, made, grad, to_input)
    if to_input or layer.attention_norm.trains:
        run.tell(layer.index, "input", grad)


class _Again:
    """The whole tensors of a layer: found, or made again when somebody asks."""

    def __init__(self, run: Run, layer: Layer) -> None:
        self.run, self.layer = run, layer
        self._found: dict[str, Tensor] = {}

    def input(self) -> Tensor:
        """The residual stream before attention, [T, H]."""
        held = self._known("input")
        if held is None:
            raise AssertionError("the input of a layer is kept or offloaded")
        return held

    def qkv(self) -> Tensor:
        """[T, Q + 2 K]."""
        if self._known("qkv") is None:
            self._found["qkv"] = ahead.queries_keys_values(self.run, self.layer, self.input())
        return self._found["qkv"]

    def attention(self) -> Tensor:
        """[T, Q + pad]."""
        if self._known("attention") is None:
            self._found["attention"] = whole.attend(self.run, self.layer, self.qkv())
        return self._found["attention"]

    def middle(self) -> Tensor:
        """The residual stream before the MLP, [T, H]; it may lie where `slopes` will."""
        held = self._known("middle")
        if held is not None:
            return held
        run, layer, h = self.run, self.layer, self.input()
        out, bound = self._known("attention_out"), layer.attention_out_norm
        attended = self.attention() if out is None else None
        middle = slopes(run, layer)[: h.numel()].view(h.shape)
        if attended is not None:
            ahead.after_attention(run, layer, h, attended, middle)
        elif out is not None and bound is not None:
            for rows in tiles(run):
                update = piece(run, "added", rows, layer.sizes.hidden)
                norm(run, bound, out[rows], update)
                torch.add(update, h[rows], out=middle[rows])
        return middle

    def _known(self, item: str) -> Tensor | None:
        if item not in self._found:
            held = self.run.storage.find(self.layer.index, item)
            if held is not None:
                self._found[item] = held
        return self._found.get(item)


def slopes(run: Run, layer: Layer) -> Tensor:
    """Room for the gradients of attention's output and of some heads' q, k, v: flat."""
    sizes = layer.sizes
    columns = max(sizes.query + room_columns(run, layer), sizes.hidden)
    return run.shared.scratch.get("slopes", run.tokens, columns).view(-1)


def _mlp(run: Run, layer: Layer, middle: Tensor, grad: Tensor) -> None:
    """The MLP's part: grad becomes the gradient of the stream before it."""
    shared, sizes, bound = run.shared, layer.sizes, layer.mlp_out_norm
    wides, made = _again(run, layer, "mlp", layer.gate_up.outputs + layer.gate_up.pad)
    outs, out_made = _again(run, layer, "mlp_out", sizes.hidden)
    for rows in tiles(run):
        x, wide = normed(run, layer, layer.gate_up, rows), wides(rows)
        rstd = norm(run, layer.mlp_norm, middle[rows], x)
        if made:
            low = project(run, layer.gate_up, "gate_up", x, wide[:, : layer.gate_up.outputs], rows)
        else:
            low = _lower(run, layer.gate_up, "gate_up", x, rows)
        product = ahead.activate(run, layer, wide, rows)
        down_low = _lower(run, layer.down, "down", product, rows)
        if bound is not None and out_made:
            layer.down.forward(shared, product, outs(rows), down_low, fresh=False)
        out = None if bound is None else outs(rows)
        d_out = _slope(run, layer, layer.down, bound, out, grad, rows)
        slope = product[:, : sizes.inner]  # y, then dy, then y
        layer.down.backward_input(shared, d_out, slope, down_low)
        gate, up = whole.halves(layer, wide)
        run.ops.activation_backward(slope, gate, up, d_gate=gate, d_up=up, y=slope)
        _parameters(run, layer.down, d_out, product, down_low)
        d_normed = piece(run, "added", rows, sizes.hidden)
        layer.gate_up.backward_input(shared, wide, d_normed, low)
        _parameters(run, layer.gate_up, wide, x, low)
        norm_backward(
            run, layer.mlp_norm, d_normed, middle[rows], rstd, grad[rows], residual=grad[rows]
        )


def _attention(run: Run, layer: Layer, made: _Again, grad: Tensor, to_input: bool) -> None:
    """Attention's part: grad becomes the gradient of the layer's input."""
    sizes = layer.sizes
    attended, qkv = made.attention(), made.qkv()
    room = slopes(run, layer)
    slope = room[: run.tokens * sizes.query].view(run.tokens, sizes.query)
    _output(run, layer, attended, grad, slope)
    run.tell(layer.index, "attention", slope)
    rest = room[slope.numel() :][: run.tokens * room_columns(run, layer)]
    attention_backward(run, layer, qkv, attended, slope, rest)
    run.tell(layer.index, "q k v", qkv)
    _inputs(run, layer, made.input(), qkv, grad, to_input)


def _output(run: Run, layer: Layer, attended: Tensor, grad: Tensor, slope: Tensor) -> None:
    """Through the o projection: `slope` [T, Q] becomes the gradient of attention's output."""
    shared, bound = run.shared, layer.attention_out_norm
    outs, out_made = _again(run, layer, "attention_out", layer.sizes.hidden)
    for rows in tiles(run):
        low = _lower(run, layer.o, "o", attended[rows], rows)
        if bound is not None and out_made:
            layer.o.forward(shared, attended[rows], outs(rows), low, fresh=False)
        out = None if bound is None else outs(rows)
        d_out = _slope(run, layer, layer.o, bound, out, grad, rows)
        layer.o.backward_input(shared, d_out, slope[rows], low)
        _parameters(run, layer.o, d_out, attended[rows], low)


def _inputs(run: Run, layer: Layer, h: Tensor, d_qkv: Tensor, grad: Tensor, to_input: bool) -> None:
    """Through the projections to q, k, v and the norm before them."""
    bound, group = layer.attention_norm, layer.qkv
    needed = to_input or bound.trains
    for rows in tiles(run):
        dy = d_qkv[rows]
        if group.pad:
            dy = piece(run, "wide slope", rows, group.outputs + group.pad)
            dy[:, : group.outputs] = d_qkv[rows]
        x = normed(run, layer, group, rows)
        rstd = norm(run, bound, h[rows], x)
        low = _lower(run, group, "qkv", x, rows)
        d_normed = piece(run, "added", rows, layer.sizes.hidden)
        if needed:
            group.backward_input(run.shared, dy, d_normed, low)
        _parameters(run, group, dy, x, low, slopes=needed)
        if needed:
            norm_backward(run, bound, d_normed, h[rows], rstd, grad[rows], residual=grad[rows])


def _again(run: Run, layer: Layer, item: str, columns: int) -> tuple[Place, bool]:
    """Where an item of a tile is found, and False; or where it is to be made again, and True."""
    held = run.storage.find(layer.index, item)
    if held is not None:
        return lambda rows: held[rows], False
    return lambda rows: piece(run, item, rows, columns), True


def _lower(run: Run, group: Group, name: str, x: Tensor, rows: slice) -> Tensor:
    low = low_rank(run, group, name, rows)
    if group.trains:
        group.lower(run.shared, x, low)
    return low


def _slope(
    run: Run, layer: Layer, group: Group, bound: BoundNorm | None, out: Tensor | None,
    grad: Tensor, rows: slice,
) -> Tensor:  # fmt: skip
    """The gradient of what a projection gives, with room for its adapter: [rows, H + pad]."""
    hidden = layer.sizes.hidden
    if bound is None and group.pad == 0:
        return grad[rows]
    d_out = piece(run, f"slope {group.pad}", rows, hidden + group.pad)
    if bound is None or out is None:
        d_out[:, :hidden] = grad[rows]
        return d_out
    rstd = norm(run, bound, out, piece(run, "added", rows, hidden))
    norm_backward(run, bound, grad[rows], out, rstd, d_out[:, :hidden])
    return d_out


def _parameters(
    run: Run, group: Group, dy: Tensor, x: Tensor, low: Tensor, *, slopes: bool = True
) -> None:
    if group.trains:
        group.backward_parameters(run.shared, dy, x, low, slopes=slopes)
