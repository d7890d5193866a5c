"""The forward pass of one layer, in pieces that its backward pass runs again where it must.

    x1 = norm(h),  q k v = qkv(x1),  rotate,  a = attention,  u = o(a) [, norm],  m = h + u
    x2 = norm(m),  g u = gate_up(x2),  y = act(g) u,  d = down(y) [, norm],  next h = m + d

The addition to the residual stream is fused with the norm that follows it, so a layer hands on its
stream m and the update d that is still to be added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ftlab.models.fused.layer import BoundNorm, Group, Layer
from ftlab.models.fused.ops import Ops
from ftlab.models.fused.storage import Storage
from ftlab.models.fused.targets import Pass

Tables = tuple[Tensor, Tensor]
# Told of what a pass makes: pass, layer, place in the layer, value. It must not change the value.
Tap = Callable[[str, int, str, Tensor], None]


@dataclass(slots=True)
class Run:
    """One pass over all layers, as every layer sees it."""

    ops: Ops
    shared: Pass
    storage: Storage
    tables: Sequence[Tables]
    plan: Any  # the attention's layout of the batch
    attention: dict[int | None, Any]  # by window
    tokens: int
    scale: float
    softcap: float | None
    tile: int = 0  # rows taken at a time; 0: all at once
    where: str = ""  # name of the pass, for `tap`
    tap: Tap | None = None

    def tell(self, layer: int, place: str, value: Tensor) -> None:
        """Tell the tap, where there is one."""
        if self.tap is not None:
            self.tap(self.where, layer, place, value)


def layer_forward(
    run: Run, layer: Layer, stream: Tensor, update: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Through one layer.

    Args:
        stream: [T, H] residual stream.
        update: [T, H] that is not added to it yet; None at the first layer.

    Returns:
        the next stream and its update.
    """
    i, storage = layer.index, run.storage
    stream = _enter(run, layer, stream, update)
    run.tell(i, "input", stream)
    storage.send(i, "input")
    qkv = queries_keys_values(run, layer, fresh=True)
    run.tell(i, "q k v", qkv)
    storage.send(i, "qkv")
    attended = attend(run, layer, qkv)
    run.tell(i, "attention", heads_of(layer, attended))
    out = output(run, layer, attended, fresh=True)
    run.tell(i, "o", out)
    storage.send(i, "attention")
    storage.send(i, "attention_out")
    middle = add_attention(run, layer, stream, after_attention(run, layer, out))
    run.tell(i, "stream before the MLP", middle)
    storage.send(i, "middle")
    gate_up = gates(run, layer, fresh=True)
    for place, half in zip(("gate", "up"), halves(layer, gate_up), strict=True):
        run.tell(i, place, half)
    storage.send(i, "mlp")
    product = activate(run, layer, gate_up)
    run.tell(i, "activation", product[:, : layer.sizes.inner])
    made = project_mlp(run, layer, product, fresh=True)
    run.tell(i, "down", made)
    storage.send(i, "mlp_out")
    return middle, _update(run, layer, layer.mlp_out_norm, made, "rstd_mlp")


def _enter(run: Run, layer: Layer, stream: Tensor, update: Tensor | None) -> Tensor:
    """The stream of the layer, with q's, k's and v's normed input in its scratch."""
    x = normed(run, layer, layer.qkv)
    if update is None:
        stream = run.storage.adopt(layer.index, "input", stream)
        norm(run, layer.attention_norm, stream, x, layer.index, "rstd1")
        return stream
    h = run.storage.destination(layer.index, "input", run.tokens, layer.sizes.hidden)
    norm(run, layer.attention_norm, update, x, layer.index, "rstd1", stream, h)
    return h


def normed(run: Run, layer: Layer, group: Group) -> Tensor:
    """The scratch that a norm writes and a group reads: [T, H + pad]."""
    hidden = layer.sizes.hidden
    both = max(layer.qkv.pad, layer.gate_up.pad)
    return run.shared.scratch.get("normed", run.tokens, hidden + both)[:, : hidden + group.pad]


def norm(
    run: Run, bound: BoundNorm, x: Tensor, out: Tensor, layer: int, stat: str,
    stream: Tensor | None = None, stream_out: Tensor | None = None,
) -> None:  # fmt: skip
    """out[:, :H] = norm(x + stream), the sum into `stream_out`, the statistic kept as `stat`."""
    wanted = out if out.shape[1] == x.shape[1] else out[:, : x.shape[1]]
    _, _, rstd = run.ops.rms_norm_forward(
        x, bound.weight.detach(), eps=bound.eps, offset=bound.offset,
        weight_fp32=bound.weight_fp32, residual=stream, out=wanted, residual_out=stream_out,
    )  # fmt: skip
    run.storage.small[layer].stats[stat] = rstd


def group_forward(
    run: Run, layer: Layer, group: Group, name: str, x: Tensor, out: Tensor, *, fresh: bool
) -> None:
    """One group of projections, x A^T kept under its name."""
    low = run.storage.small[layer.index].low
    if name not in low:
        low[name] = run.shared.scratch.new(run.tokens, group.low)
    group.forward(run.shared, x, out, low[name], fresh=fresh)


def queries_keys_values(run: Run, layer: Layer, *, fresh: bool) -> Tensor:
    """[T, Q + 2 K] from the normed stream: rotated, or as projected where q and k are normed."""
    sizes = layer.sizes
    width = sizes.query + 2 * sizes.key
    qkv = run.storage.destination(layer.index, "qkv", run.tokens, width)
    group_forward(run, layer, layer.qkv, "qkv", normed(run, layer, layer.qkv), qkv, fresh=fresh)
    if layer.q_norm is None and layer.rope is not None:
        q, k, _ = split_heads(layer, qkv)
        run.ops.rope_(q, k, *run.tables[layer.rope])
    return qkv


def split_heads(layer: Layer, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Views [T, Hq, D] and twice [T, Hkv, D] of a fused buffer."""
    sizes = layer.sizes
    heads = qkv.view(qkv.shape[0], -1, sizes.head_dim)
    return (
        heads[:, : sizes.heads],
        heads[:, sizes.heads : sizes.heads + sizes.kv_heads],
        heads[:, sizes.heads + sizes.kv_heads :],
    )


def rotated(run: Run, layer: Layer, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v as attention takes them; with per-head norms q and k are made anew from qkv."""
    q, k, v = split_heads(layer, qkv)
    if layer.q_norm is None or layer.k_norm is None:
        return q, k, v
    assert layer.rope is not None, "per-head norms come with a rotation"
    sizes, bound = layer.sizes, layer.q_norm
    both = run.shared.scratch.get("rotated", run.tokens, sizes.query + sizes.key)
    heads = both.view(run.tokens, -1, sizes.head_dim)
    q_out, k_out = heads[:, : sizes.heads], heads[:, sizes.heads :]
    _, _, rstd = run.ops.rope_norm_forward(
        q, k, *run.tables[layer.rope], bound.weight.detach(), layer.k_norm.weight.detach(),
        eps=bound.eps, offset=bound.offset, weight_fp32=bound.weight_fp32,
        q_out=q_out, k_out=k_out,
    )  # fmt: skip
    run.storage.small[layer.index].stats["heads"] = rstd
    return q_out, k_out, v


def attend(run: Run, layer: Layer, qkv: Tensor) -> Tensor:
    """[T, Q + pad] with attention's output in its first columns."""
    sizes = layer.sizes
    attended = run.storage.destination(
        layer.index, "attention", run.tokens, sizes.query + layer.o.pad
    )
    pair = run.attention[layer.window]
    _, lse = pair.forward(
        *rotated(run, layer, qkv), run.plan, scale=run.scale, window=layer.window,
        softcap=run.softcap, out=heads_of(layer, attended),
    )  # fmt: skip
    run.storage.small[layer.index].stats["lse"] = lse
    return attended


def heads_of(layer: Layer, attended: Tensor) -> Tensor:
    """[T, Hq, D] view of what lies in the first columns."""
    sizes = layer.sizes
    return as_heads(attended[:, : sizes.query], sizes.head_dim)


def as_heads(x: Tensor, head_dim: int) -> Tensor:
    """[T, heads, D] view of [T, heads D], whatever the row stride."""
    return x.view(x.shape[0], -1, head_dim)


def output(run: Run, layer: Layer, attended: Tensor, *, fresh: bool) -> Tensor:
    """What the o projection gives, [T, H], before the norm that may follow it."""
    if layer.attention_out_norm is None:
        out = run.shared.scratch.get("update", run.tokens, layer.sizes.hidden)
    else:
        out = run.storage.destination(layer.index, "attention_out", run.tokens, layer.sizes.hidden)
    group_forward(run, layer, layer.o, "o", attended, out, fresh=fresh)
    return out


def after_attention(run: Run, layer: Layer, out: Tensor) -> Tensor:
    """The update of the residual stream from what the o projection gives."""
    return _update(run, layer, layer.attention_out_norm, out, "rstd_attention")


def add_attention(run: Run, layer: Layer, stream: Tensor, update: Tensor) -> Tensor:
    """The stream before the MLP, [T, H]; gate's and up's normed input lies in its scratch."""
    middle = run.storage.destination(layer.index, "middle", run.tokens, layer.sizes.hidden)
    x = normed(run, layer, layer.gate_up)
    norm(run, layer.mlp_norm, update, x, layer.index, "rstd2", stream, middle)
    return middle


def gates(run: Run, layer: Layer, *, fresh: bool) -> Tensor:
    """[T, 2 I + pad] with gate and up in its first columns."""
    inner = layer.gate_up.outputs
    wide = run.storage.destination(layer.index, "mlp", run.tokens, inner + layer.gate_up.pad)
    x = normed(run, layer, layer.gate_up)
    out = wide if layer.gate_up.pad == 0 else wide[:, :inner]
    group_forward(run, layer, layer.gate_up, "gate_up", x, out, fresh=fresh)
    return wide


def halves(layer: Layer, wide: Tensor) -> tuple[Tensor, Tensor]:
    """gate and up [T, I] as views."""
    inner = layer.sizes.inner
    return wide[:, :inner], wide[:, inner : 2 * inner]


def activated(run: Run, layer: Layer) -> Tensor:
    """The scratch of y: [T, I + pad]."""
    columns = layer.sizes.inner + layer.down.pad
    return run.shared.scratch.arena("product", run.tokens, columns)


def activate(run: Run, layer: Layer, gate_up: Tensor) -> Tensor:
    """y = act(gate) up, [T, I + pad]."""
    product = activated(run, layer)
    run.ops.activation_forward(*halves(layer, gate_up), out=product[:, : layer.sizes.inner])
    return product


def project_mlp(run: Run, layer: Layer, product: Tensor, *, fresh: bool) -> Tensor:
    """What the down projection gives, [T, H], before the norm that may follow it."""
    if layer.mlp_out_norm is None:
        out = run.shared.scratch.get("update", run.tokens, layer.sizes.hidden)
    else:
        out = run.storage.destination(layer.index, "mlp_out", run.tokens, layer.sizes.hidden)
    group_forward(run, layer, layer.down, "down", product, out, fresh=fresh)
    return out


def _update(run: Run, layer: Layer, bound: BoundNorm | None, out: Tensor, stat: str) -> Tensor:
    if bound is None:
        return out
    update = run.shared.scratch.get("update", run.tokens, layer.sizes.hidden)
    norm(run, bound, out, update, layer.index, stat)
    return update
