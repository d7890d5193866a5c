"""The backward pass of one layer, by hand.

    dd = dh [through the norm after down],   dy = down'(dd),  dg du = act'(dy), y once more
    dm = dh + norm'(gate_up'(dg du)),        du = dm [through the norm after o],  da = o'(du)
    dq dk dv = attention'(da), rotated back, dh = dm + norm'(qkv'(dq dk dv))

The gradient of the residual stream is one buffer that is added to in place. Parameters need the
normed streams and y, which are cheap to make again.
"""

from __future__ import annotations

from torch import Tensor

from ftlab.models.fused import layer_forward as ahead
from ftlab.models.fused.layer import BoundNorm, Group, Layer
from ftlab.models.fused.layer_forward import Run
from ftlab.models.fused.remake import Remake


def layer_backward(run: Run, layer: Layer, grad: Tensor, *, to_input: bool) -> None:
    """Backward through one layer.

    Args:
        grad: [T, H + pad]; its first columns hold the gradient of the layer's result and, when
            this returns, that of its input. The others are overwritten.
        to_input: False at a first layer whose input nobody trains.
    """
    made, stream = Remake(run, layer), grad[:, : layer.sizes.hidden]
    run.tell(layer.index, "result", stream)
    _mlp(run, layer, made, grad)
    run.tell(layer.index, "stream before the MLP", stream)
    _attention(run, layer, made, grad, to_input)
    if to_input or layer.attention_norm.trains:
        run.tell(layer.index, "input", stream)


def _mlp(run: Run, layer: Layer, made: Remake, grad: Tensor) -> None:
    shared, inner = run.shared, layer.sizes.inner
    middle, wide = made.middle(), made.gate_up()  # first: making them takes the scratch below
    if layer.mlp_out_norm is None:
        d_out = grad[:, : layer.sizes.hidden + layer.down.pad]
    else:
        d_out = _before_norm(run, layer, layer.mlp_out_norm, made.mlp_out(), grad, layer.down)
    product = ahead.activated(run, layer)
    slope = product[:, :inner]  # dy, then y
    low = run.storage.small[layer.index].low
    layer.down.backward_input(shared, d_out, slope, low["down"])
    gate, up = ahead.halves(layer, wide)
    run.tell(layer.index, "activation", slope)
    run.ops.activation_backward(slope, gate, up, d_gate=gate, d_up=up, y=slope)
    run.tell(layer.index, "gate", gate)
    run.tell(layer.index, "up", up)
    _parameters(run, layer, layer.down, "down", d_out, product)
    d_normed = shared.scratch.get("update", run.tokens, layer.sizes.hidden)
    layer.gate_up.backward_input(shared, wide, d_normed, low["gate_up"])
    x = made.normed(layer.gate_up) if layer.gate_up.needs_input else d_normed
    _parameters(run, layer, layer.gate_up, "gate_up", wide, x)
    _through_norm(run, layer, layer.mlp_norm, middle, "rstd2", d_normed, grad)


def _attention(run: Run, layer: Layer, made: Remake, grad: Tensor, to_input: bool) -> None:
    shared, sizes = run.shared, layer.sizes
    scratch = shared.scratch
    attended, qkv = made.attention(), made.qkv()
    if layer.attention_out_norm is None:
        d_out = grad[:, : sizes.hidden + layer.o.pad]
    else:
        out = made.attention_out()
        d_out = _before_norm(run, layer, layer.attention_out_norm, out, grad, layer.o)
    # The MLP is through with its product: these lie over it.
    slope = scratch.arena("product", run.tokens, sizes.query)
    low = run.storage.small[layer.index].low
    layer.o.backward_input(shared, d_out, slope, low["o"])
    run.tell(layer.index, "attention", slope)
    _parameters(run, layer, layer.o, "o", d_out, attended)
    width = layer.qkv.outputs
    d_qkv = scratch.arena(
        "product", run.tokens, width + layer.qkv.pad, first=run.tokens * sizes.query
    )
    attention_slopes(run, layer, qkv, attended, slope, d_qkv[:, :width])
    run.tell(layer.index, "q k v", d_qkv[:, :width])
    d_normed = scratch.get("update", run.tokens, sizes.hidden)
    needed = to_input or layer.attention_norm.trains
    if needed:
        layer.qkv.backward_input(shared, d_qkv, d_normed, low["qkv"])
    x = made.normed(layer.qkv) if layer.qkv.needs_input else d_normed
    _parameters(run, layer, layer.qkv, "qkv", d_qkv, x, slopes=needed)
    if needed:
        _through_norm(run, layer, layer.attention_norm, made.input(), "rstd1", d_normed, grad)


def attention_slopes(
    run: Run, layer: Layer, qkv: Tensor, attended: Tensor, slope: Tensor, d_qkv: Tensor
) -> None:
    """dq, dk, dv of the projected values into d_qkv [T, Q + 2 K]."""
    sizes, stats = layer.sizes, run.storage.small[layer.index].stats
    dq, dk, dv = ahead.split_heads(layer, d_qkv)
    run.attention[layer.window].backward(
        slope.view(run.tokens, sizes.heads, sizes.head_dim), *ahead.rotated(run, layer, qkv),
        ahead.heads_of(layer, attended), stats["lse"], run.plan, scale=run.scale,
        window=layer.window, softcap=run.softcap, dq=dq, dk=dk, dv=dv,
    )  # fmt: skip
    q, k, _ = ahead.split_heads(layer, qkv)
    turn_back(run, layer, dq, dk, q, k, stats.get("heads"))


def turn_back(
    run: Run, layer: Layer, dq: Tensor, dk: Tensor, q: Tensor, k: Tensor, rstd: Tensor | None
) -> None:
    """dq and dk, in place, through the rotation and the norms of q and k where there are any.

    Args:
        dq, q: [T, heads, D]; dk, k: [T, kv_heads, D], projected values of some or of all heads.
        rstd: [T, heads + kv_heads], the norms' statistics.
    """
    if layer.rope is None:
        return
    tables = run.tables[layer.rope]
    if layer.q_norm is None or layer.k_norm is None:
        run.ops.rope_(dq, dk, *tables, inverse=True)
        return
    bound, other = layer.q_norm, layer.k_norm
    d_weights = run.ops.rope_norm_backward(
        dq, dk, q, k, *tables, bound.weight.detach(), other.weight.detach(), rstd,
        offset=bound.offset, weight_fp32=bound.weight_fp32,
        need_weight_grad=bound.trains or other.trains,
    )  # fmt: skip
    for part, d_weight in zip((bound, other), d_weights, strict=True):
        if part.trains:
            run.shared.gradients.add(part.weight, d_weight)


def _parameters(
    run: Run, layer: Layer, group: Group, name: str, dy: Tensor, x: Tensor, *, slopes: bool = True
) -> None:
    if group.trains:
        low = run.storage.small[layer.index].low[name]
        group.backward_parameters(run.shared, dy, x, low, slopes=slopes)


def _through_norm(
    run: Run, layer: Layer, bound: BoundNorm, h: Tensor, stat: str, d_normed: Tensor, grad: Tensor
) -> None:
    """grad[:, :H] += norm'(d_normed), in place."""
    stream = grad[:, : layer.sizes.hidden]
    _, d_weight = run.ops.rms_norm_backward(
        d_normed, h, bound.weight.detach(), run.storage.small[layer.index].stats[stat],
        offset=bound.offset, weight_fp32=bound.weight_fp32, grad_residual=stream, out=stream,
        need_weight_grad=bound.trains,
    )  # fmt: skip
    if bound.trains:
        run.shared.gradients.add(bound.weight, d_weight)


def _before_norm(
    run: Run, layer: Layer, bound: BoundNorm, out: Tensor, grad: Tensor, group: Group
) -> Tensor:
    """The gradient of what a projection gives, where a norm follows it: [T, H + pad]."""
    hidden = layer.sizes.hidden
    wide = run.shared.scratch.get(f"out_slope{group.pad}", run.tokens, hidden + group.pad)
    stat = "rstd_mlp" if bound is layer.mlp_out_norm else "rstd_attention"
    _, d_weight = run.ops.rms_norm_backward(
        grad[:, :hidden], out, bound.weight.detach(),
        run.storage.small[layer.index].stats[stat], offset=bound.offset,
        weight_fp32=bound.weight_fp32, out=wide[:, :hidden], need_weight_grad=bound.trains,
    )  # fmt: skip
    if bound.trains:
        run.shared.gradients.add(bound.weight, d_weight)
    return wide
