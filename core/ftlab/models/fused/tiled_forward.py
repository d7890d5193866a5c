"""The forward pass of a layer some rows at a time, for contexts too long to take at once.

q, k, v and attention's output are whole, because every row looks at others there, and so are the
residual stream and its update. The rest exists for a tile of rows alone: normed inputs, gate and
up, their product. Groups of projections take turns over all tiles, so that each weight is expanded
as often as without tiles. Formulas are those of `layer_forward`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab.models.fused import layer_forward as whole
from ftlab.models.fused.layer import Layer
from ftlab.models.fused.layer_forward import Run
from ftlab.models.fused.tiles import norm, normed, piece, place, project, tiles
from ftlab.models.layers import Lookup


def tiled_forward(
    run: Run, layer: Layer, stream: Tensor | Lookup, update: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Through one layer.

    Args:
        stream: [T, H] residual stream; at the first layer it may be token ids to look up.
        update: [T, H] that is not added to it yet; None at the first layer.

    Returns:
        the next stream and its update.
    """
    i, storage = layer.index, run.storage
    h, qkv = _enter(run, layer, stream, update)
    run.tell(i, "input", h)
    storage.send(i, "input")
    run.tell(i, "q k v", qkv)
    storage.send(i, "qkv")
    attended = whole.attend(run, layer, qkv)
    forget(run, layer)
    run.tell(i, "attention", whole.heads_of(layer, attended))
    storage.send(i, "attention")
    middle = storage.destination(i, "middle", run.tokens, layer.sizes.hidden)
    after_attention(run, layer, h, attended, middle)
    storage.send(i, "attention_out")
    run.tell(i, "stream before the MLP", middle)
    storage.send(i, "middle")
    made = _mlp(run, layer, middle)
    run.tell(i, "update", made)
    storage.send(i, "mlp")
    storage.send(i, "mlp_out")
    return middle, made


def _enter(
    run: Run, layer: Layer, stream: Tensor | Lookup, update: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The stream of the layer, [T, H], and its q, k, v."""
    i, storage, bound = layer.index, run.storage, layer.attention_norm
    if isinstance(stream, Tensor) and update is None:
        h = storage.adopt(i, "input", stream)
    else:
        h = storage.destination(i, "input", run.tokens, layer.sizes.hidden)
    qkv = _room(run, layer)
    for rows in tiles(run):
        x = normed(run, layer, layer.qkv, rows)
        if update is not None and isinstance(stream, Tensor):
            norm(run, bound, update[rows], x, stream[rows], h[rows])
        else:
            if not isinstance(stream, Tensor):
                h[rows] = stream.rows(rows)
            norm(run, bound, h[rows], x)
        _queries_keys_values(run, layer, x, qkv, rows)
    return h, qkv


def _room(run: Run, layer: Layer) -> Tensor:
    width = layer.sizes.query + 2 * layer.sizes.key
    return run.storage.destination(layer.index, "qkv", run.tokens, width)


def queries_keys_values(run: Run, layer: Layer, h: Tensor) -> Tensor:
    """[T, Q + 2 K] from the stream, once more."""
    qkv = _room(run, layer)
    for rows in tiles(run):
        x = normed(run, layer, layer.qkv, rows)
        norm(run, layer.attention_norm, h[rows], x)
        _queries_keys_values(run, layer, x, qkv, rows)
    return qkv


def _queries_keys_values(run: Run, layer: Layer, x: Tensor, qkv: Tensor, rows: slice) -> None:
    project(run, layer.qkv, "qkv", x, qkv[rows], rows)
    if layer.q_norm is None and layer.rope is not None:
        q, k, _ = whole.split_heads(layer, qkv[rows])
        cos, sin = run.tables[layer.rope]
        run.ops.rope_(q, k, cos[rows], sin[rows])


def forget(run: Run, layer: Layer) -> None:
    """Drop statistics of attention that its second computation gives again."""
    stats = run.storage.small[layer.index].stats
    stats.pop("heads", None)
    if not run.storage.stays(layer.index, "attention"):
        stats.pop("lse", None)


def after_attention(run: Run, layer: Layer, h: Tensor, attended: Tensor, middle: Tensor) -> None:
    """The stream before the MLP into `middle` [T, H]: h and what the o projection adds to it."""
    hidden, bound = layer.sizes.hidden, layer.attention_out_norm
    outs = place(run, layer, "attention_out", hidden) if bound is not None else None
    for rows in tiles(run):
        update = piece(run, "added", rows, hidden)
        out = update if outs is None else outs(rows)
        project(run, layer.o, "o", attended[rows], out, rows)
        if bound is not None:
            norm(run, bound, out, update)
        # As the norm that follows adds them where nothing is tiled: one rounding.
        torch.add(update, h[rows], out=middle[rows])


def _mlp(run: Run, layer: Layer, middle: Tensor) -> Tensor:
    """The update after the MLP, [T, H]."""
    hidden, inner, bound = layer.sizes.hidden, layer.gate_up.outputs, layer.mlp_out_norm
    update = run.shared.scratch.get("update", run.tokens, hidden)
    wides = place(run, layer, "mlp", inner + layer.gate_up.pad)
    outs = place(run, layer, "mlp_out", hidden) if bound is not None else None
    for rows in tiles(run):
        x, wide = normed(run, layer, layer.gate_up, rows), wides(rows)
        norm(run, layer.mlp_norm, middle[rows], x)
        project(run, layer.gate_up, "gate_up", x, wide[:, :inner], rows)
        product = activate(run, layer, wide, rows)
        out = update[rows] if outs is None else outs(rows)
        project(run, layer.down, "down", product, out, rows)
        if bound is not None:
            norm(run, bound, out, update[rows])
    return update


def activate(run: Run, layer: Layer, wide: Tensor, rows: slice) -> Tensor:
    """y = act(gate) up of a tile, [rows, I + pad]."""
    product = piece(run, "product", rows, layer.sizes.inner + layer.down.pad)
    gate, up = whole.halves(layer, wide)
    run.ops.activation_forward(gate, up, out=product[:, : layer.sizes.inner])
    return product
