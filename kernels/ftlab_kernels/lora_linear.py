"""LoRA and DoRA beside a frozen base: one folded product forward, one backward, for 1-3 targets.

    forward   u = d(x) A^T,   y = [x | u | 1] [W | s B | bias]^T
    backward  v = dy s B,     dx = [dy | v] [W ; A],   dA = v^T d(x),   dB = s dy^T u
    DoRA      z = [x | u] [W | s B]^T,   y = c z + bias,   c = m / ||W + s B A||_2 (held constant),
              dy' = c dy takes dy's place above,   dm = sum_t dy z / ||W + s B A||_2

With dropout dx = dy W + d'(v A), because d masks u and not x. Kept for the backward pass: u, and z
with DoRA. x A^T reads x once for all targets, dy B and dB read dy once (`lora_down`, `lora_up`);
gradients are fp32, summed in a fixed order (`lora_sum`). The two large products are the library's.
Hu et al. 2021, "LoRA"; Liu et al. 2024, "DoRA".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ftlab_kernels import dora, lora_down, lora_up
from ftlab_kernels.dispatch import choose
from ftlab_kernels.lora_fold import folded
from ftlab_kernels.lora_group import Adapter, Linear, LoraGroup
from ftlab_kernels.lora_sum import sum_parts
from ftlab_kernels.reference.dropout import dropout
from ftlab_kernels.reference.frozen_linear import FrozenWeight
from ftlab_kernels.reference.lora_linear import lora_linear as reference


@dataclass(frozen=True, slots=True)
class SavedLora:
    """What backward needs of forward beside x."""

    low_rank: Tensor  # u [T, P]
    product: Tensor | None = None  # z [T, N], with DoRA
    ratio: Tensor | None = None  # c fp32 [N], with DoRA
    norm: Tensor | None = None  # ||W + s B A||_2 fp32 [N], with DoRA


@dataclass(frozen=True, slots=True)
class AdapterGrads:
    """Gradients of one adapter, fp32."""

    a: Tensor  # [r, K]
    b: Tensor  # [N, r]
    magnitude: Tensor | None = None  # [N]


Grads = tuple[AdapterGrads | None, ...]


def _widened(x: Tensor, width: int, pad: int) -> Tensor:
    """x [T, width + pad]: itself if it has the room, else a copy."""
    if x.shape[1] == width + pad:
        return x
    wide = torch.empty((len(x), width + pad), dtype=x.dtype, device=x.device)
    wide[:, :width].copy_(x)
    return wide


def low_rank(
    x: Tensor, group: LoraGroup, *, seeds: Tensor | None = None, out: Tensor | None = None
) -> Tensor:
    """u [T, P] alone, to compute it again instead of keeping it."""
    a = torch.zeros((group.pad, group.K), dtype=x.dtype, device=x.device)
    for target, linear in enumerate(group.linears):
        if linear.adapter is not None:
            a[group.columns.of(target)] = linear.adapter.a.detach().to(x.dtype)
    if out is None:
        out = torch.empty((len(x), group.pad), dtype=x.dtype, device=x.device)
    return lora_down.project(x[:, : group.K], a, group.columns, seeds=seeds, out=out)


def lora_forward(
    x: Tensor,
    group: LoraGroup,
    *,
    seeds: Tensor | None = None,
    out: Tensor | None = None,
    weight_buffer: Tensor | None = None,
) -> tuple[Tensor, SavedLora]:
    """y [T, N] of all projections side by side, and what backward needs.

    Args:
        x: [T, K + P], of which the last P columns are overwritten, or [T, K], which is copied.
        group: the projections.
        seeds: int64 [projections] on the device: keys of dropout; None means no dropout.
        out: [T, N], any row stride.
        weight_buffer: 16-bit scratch for expanded weights (`group.buffer_shape()`).
    """
    K, N = group.K, group.N
    weight = folded(group, x.dtype, x.device, weight_buffer)
    if out is None:
        out = torch.empty((len(x), N), dtype=x.dtype, device=x.device)
    if not group.pad:
        torch.mm(x, weight.t(), out=out)
        return out, SavedLora(x[:, K:])
    wide = _widened(x, K, group.pad)
    u = lora_down.project(wide[:, :K], weight[N:, :K], group.columns, seeds=seeds, out=wide[:, K:])
    if group.dora:
        product = torch.empty((len(x), N), dtype=x.dtype, device=x.device)
        norm, ratio = dora.norm_and_ratio(group, weight)
        dora.forward(wide, weight, group, ratio, seeds, product=product, out=out)
        return out, SavedLora(u, product, ratio, norm)
    torch.mm(wide, weight[:N].t(), out=out)
    return out, SavedLora(u)


def lora_backward(
    grad: Tensor,
    x: Tensor,
    group: LoraGroup,
    saved: SavedLora,
    *,
    seeds: Tensor | None = None,
    dx: Tensor | None = None,
    weight_buffer: Tensor | None = None,
    out_grads: Grads | None = None,
    accumulate: bool = False,
    need_dx: bool = True,
) -> tuple[Tensor | None, Grads]:
    """dx [T, K] and the adapters' gradients in fp32.

    Args:
        grad: [T, N + P], of which the last P columns are overwritten (with DoRA all of it), or
            [T, N], which is copied.
        x: [T, K] or [T, K + P].
        saved: from `lora_forward`.
        seeds, weight_buffer: as in `lora_forward`.
        dx: [T, K], any row stride.
        out_grads: where the gradients go; made if None.
        accumulate: add to what `out_grads` holds.
        need_dx: False leaves dx out.
    """
    K, N, columns = group.K, group.N, group.columns
    weight = folded(group, x.dtype, x.device, weight_buffer)
    if dx is None and need_dx:
        dx = torch.empty((len(x), K), dtype=x.dtype, device=x.device)
    if not group.adapted:
        if dx is not None:
            torch.mm(grad[:, :N], weight[:N, :K], out=dx)
        return dx, (None,) * len(group.linears)
    grads = out_grads or _empty_grads(group)
    wide = _widened(grad, N, group.pad)
    dropping = seeds is not None and columns.drops_any
    if group.dora:
        assert saved.product is not None
        assert saved.ratio is not None
        assert saved.norm is not None
        dora.magnitude_grads(wide[:, :N], saved.product, saved.norm, group, grads, accumulate)
        if dropping and seeds is not None and dx is not None:
            # dx's part that no ratio scales; the rest follows with the scaled gradient.
            dora.unscaled(wide[:, :N], weight, group, saved.ratio, seeds, dx=dx)
        wide[:, :N].mul_(saved.ratio.to(x.dtype))
    v = wide[:, N:]
    grad_b = lora_up.up(wide[:, :N], weight[:N, K:], saved.low_rank, group.rows, columns, v=v)
    if dx is not None and not dropping:
        torch.mm(wide, weight[:, :K], out=dx)
    elif dx is not None:
        if not group.dora:
            torch.mm(wide[:, :N], weight[:N, :K], out=dx)
        lora_down.add_masked(dx, v, weight[N:, :K], columns, seeds)  # type: ignore[arg-type]
    grad_a = lora_down.grad_a_parts(v, x[:, :K], columns, seeds=seeds)
    ones, scales = [1.0] * len(grads), _scales(group)
    sum_parts(
        grad_a,
        [None if g is None else g.a for g in grads],
        columns.firsts,
        ones,
        accumulate=accumulate,
    )
    sum_parts(
        grad_b,
        [None if g is None else g.b for g in grads],
        group.rows[:-1],
        scales,
        accumulate=accumulate,
    )
    return dx, grads


def _scales(group: LoraGroup) -> list[float]:
    return [0.0 if one.adapter is None else float(one.adapter.scaling) for one in group.linears]


def _empty_grads(group: LoraGroup) -> Grads:
    def like(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return torch.empty(
            tensor.shape, dtype=torch.promote_types(tensor.dtype, torch.float32),
            device=tensor.device,
        )  # fmt: skip

    return tuple(
        None if one is None else AdapterGrads(like(one.a), like(one.b), like(one.magnitude))  # type: ignore[arg-type]
        for one in (linear.adapter for linear in group.linears)
    )


class _LoraGroupLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, group: LoraGroup, seeds: Tensor | None, *parameters: Tensor
    ) -> Tensor:
        y, saved = lora_forward(x.detach(), group, seeds=seeds)
        ctx.group, ctx.saved, ctx.dtypes = group, saved, [p.dtype for p in parameters]
        ctx.save_for_backward(x, *([] if seeds is None else [seeds]))
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, *seeds = ctx.saved_tensors
        dx, grads = lora_backward(
            grad, x, ctx.group, ctx.saved, seeds=seeds[0] if seeds else None,
            need_dx=ctx.needs_input_grad[0],
        )  # fmt: skip
        flat = [g for one in grads if one for g in (one.a, one.b, one.magnitude) if g is not None]
        return dx, None, None, *(g.to(t) for g, t in zip(flat, ctx.dtypes, strict=True))


def lora_group_linear(
    x: Tensor, group: LoraGroup, seeds: Tensor | None = None
) -> tuple[Tensor, ...]:
    """y of every projection of a group, with gradients for x and the adapters.

    Args:
        x: [T, K].
        group: the projections; their A, B and magnitudes are what is differentiated.
        seeds: int64 [projections] on the device, or None for no dropout.
    """
    adapters = [linear.adapter for linear in group.linears if linear.adapter]
    flat = [p for one in adapters for p in (one.a, one.b, one.magnitude) if p is not None]
    y: Tensor = _LoraGroupLinear.apply(x, group, seeds, *flat)  # type: ignore[no-untyped-call]
    return tuple(y[:, group.part(target)] for target in range(len(group.linears)))


def lora_linear(
    x: Tensor,
    weight: Tensor | FrozenWeight,
    bias: Tensor | None,
    lora_a: Tensor,
    lora_b: Tensor,
    *,
    scaling: float,
    p: float = 0.0,
    seed: int = 0,
    magnitude: Tensor | None = None,
) -> Tensor:
    """A frozen linear layer with a low-rank adapter beside it: [T, N] in x's dtype.

    Args:
        x: [T, K].
        weight: [N, K], dense in x's dtype or quantised. It gets no gradient from the kernel.
        bias: [N] or None, likewise.
        lora_a, lora_b: [r, K] and [N, r], any floating dtype, gradients in theirs.
        scaling: s.
        p, seed: dropout and its key (`reference.dropout` draws the same mask).
        magnitude: m [N] for DoRA.
    """
    trains = [t for t in (weight, bias) if isinstance(t, Tensor) and t.requires_grad]
    unless = "the base weight or its bias is trained" if trains else None
    if choose("lora_linear", x, lora_a, lora_b, unless=unless).name != "kernel":
        dropped = dropout(x, p, seed) if p else None
        return reference(
            x, weight, bias, lora_a, lora_b, scaling=scaling, dropped=dropped, magnitude=magnitude
        )
    group = LoraGroup((Linear(weight, bias, Adapter(lora_a, lora_b, scaling, p, magnitude)),))
    seeds = torch.tensor([seed], dtype=torch.int64, device=x.device) if p else None
    return lora_group_linear(x, group, seeds)[0]
