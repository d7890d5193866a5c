"""All layers as one function of the hidden states: a single node in autograd's graph.

Forward and backward run layer by layer through buffers that all layers share. The tensors between
the passes live where the schedule says; gradients of every parameter come out at once. Where the
schedule takes rows some at a time, buffers that it is done with are handed on: hidden states lie
where the last update was, and the gradient of the residual stream where that of the hidden states
was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ftlab.models.block import Block
from ftlab.models.fused.layer import LAYER_SITES, BoundNorm, Layer, bind
from ftlab.models.fused.layer_backward import layer_backward
from ftlab.models.fused.layer_forward import Run, Tables, Tap, layer_forward
from ftlab.models.fused.offload import Offload
from ftlab.models.fused.ops import ops_for
from ftlab.models.fused.storage import Storage
from ftlab.models.fused.targets import Gradients, Pass
from ftlab.models.fused.tiled_backward import tiled_backward
from ftlab.models.fused.tiled_forward import tiled_forward
from ftlab.models.fused.workspace import Workspace
from ftlab.models.layers import Lookup, Norm
from ftlab.models.rng import DeviceKeys, StepRng
from ftlab.models.spec import DecoderSpec
from ftlab.planning.schedule import ITEMS, Schedule, items_of, overlays, tile_of
from ftlab_kernels.attention import operators


@dataclass
class Stack:
    """The layers and the final norm of a decoder, bound for the adapted or the base model."""

    spec: DecoderSpec
    layers: tuple[Layer, ...]
    final: BoundNorm
    dtype: torch.dtype
    parameters: tuple[Tensor, ...]  # those that get gradients, each once
    sinks: Mapping[int, Tensor] = field(default_factory=dict)  # see `Gradients`
    idle: list[Offload] = field(default_factory=list)
    tap: Tap | None = None  # told of what every pass makes, for `train.tracing`

    def __call__(
        self,
        x: Tensor | Lookup,
        tables: Sequence[Tables],
        plan: Any,
        schedule: Schedule,
        rng: StepRng | DeviceKeys | None,
    ) -> Tensor:
        """x [T, H] to the normed hidden states [T, H]; a `Lookup` where rows are tiled."""
        given = x if isinstance(x, Tensor) else None
        needed = bool(self.parameters) or (given is not None and given.requires_grad)
        trained = torch.is_grad_enabled() and needed
        call = _Call(self, tables, plan, schedule, rng, trained)
        if not trained:
            return call.forward(x if given is None else given.detach())
        call.lookup = None if isinstance(x, Tensor) else x
        hidden: Tensor = _Function.apply(call, given, *self.parameters)  # type: ignore[no-untyped-call]
        return hidden

    def _again_columns(self, call: _Call) -> int:
        """Of what is not kept, where gate and up lie over q, k, v and attention."""

        def some(item: str) -> bool:
            return not call.keeps or any(layer.of(item) == "recompute" for layer in call.schedule)

        found = 0
        for layer in self.layers:
            sizes = layer.sizes
            attention = some("qkv") * (sizes.query + 2 * sizes.key)
            attention += some("attention") * (sizes.query + layer.o.pad)
            mlp = some("mlp") * (layer.gate_up.outputs + layer.gate_up.pad)
            found = max(found, attention, mlp)
        return found

    def run(self, call: _Call, tokens: int, device: torch.device, where: str) -> Run:
        """What the layers of one pass share."""
        spec, scratch = self.spec, Workspace(device, self.dtype)
        for arena in ("wide", "narrow"):
            sizes = [
                g.operand_size for layer in self.layers for g in layer.groups if g.arena == arena
            ]
            scratch.reserve(arena, max(sizes))
        if not call.tile:
            if overlays(call.schedule):
                scratch.reserve("again", tokens * self._again_columns(call))
            widest = max(layer.product_columns for layer in self.layers)
            scratch.reserve("product", tokens * widest)
        windows = {layer.window for layer in self.layers}
        pairs = {
            window: operators(
                call.plan, spec.num_heads, spec.num_kv_heads, spec.head_dim, self.dtype, window,
                spec.attention_softcap,
            )
            for window in windows
        }  # fmt: skip
        return Run(
            ops=ops_for(device, self.dtype, spec.activation),
            shared=Pass(
                scratch,
                call.rng,
                gradients=Gradients(self.sinks, partial=bool(call.tile)),
                sites=len(self.layers) * LAYER_SITES,
            ),
            storage=Storage(
                call.schedule,
                items_of(spec.sandwich_norms),
                scratch,
                call.offload,
                keeps=call.keeps,
            ),
            tables=call.tables,
            plan=call.plan,
            attention=pairs,
            tokens=tokens,
            scale=spec.attention_scale,
            softcap=spec.attention_softcap,
            tile=call.tile,
            where=where,
            tap=self.tap,
        )


def stack(
    spec: DecoderSpec,
    blocks: Sequence[Block],
    norm: Norm,
    dtype: torch.dtype,
    *,
    adapter: bool,
    folds: bool | None = None,
) -> Stack:
    """Bind blocks and final norm.

    Args:
        adapter: False takes the base model's weights.
        folds: whether LoRA is folded into the products of frozen weights. By default on a GPU,
            where that saves launches and passes over memory; a CPU only computes the pads.
    """
    weight = norm.tuned if adapter else norm.base
    folds = weight.is_cuda if folds is None else folds
    layers = tuple(
        bind(block, i, adapter=adapter, dtype=dtype, folds=folds) for i, block in enumerate(blocks)
    )
    final = BoundNorm(weight, norm.eps, norm.offset, norm.weight_fp32)
    trained: dict[int, Tensor] = {}
    if adapter:
        for layer in layers:
            for parameter in layer.tensors():
                if parameter.requires_grad:
                    trained[id(parameter)] = parameter
        if weight.requires_grad:
            trained[id(weight)] = weight
    return Stack(spec, layers, final, dtype, tuple(trained.values()))


class _Call:
    """One forward pass and, at most once, its backward pass."""

    def __init__(
        self,
        owner: Stack,
        tables: Sequence[Tables],
        plan: Any,
        schedule: Schedule,
        rng: StepRng | DeviceKeys | None,
        keeps: bool,
    ) -> None:
        self.owner, self.tables, self.plan = owner, tables, plan
        self.schedule, self.rng, self.keeps = schedule, rng, keeps
        self.tile = tile_of(schedule)
        self.lookup: Lookup | None = None  # what the layers begin with, where it is no tensor
        self.offload: Offload | None = None
        self.storage: Storage | None = None
        self.last: Tensor | None = None  # residual stream after the last layer
        self.rstd: Tensor | None = None

    def forward(self, x: Tensor | Lookup) -> Tensor:
        """All layers and the final norm."""
        owner = self.owner
        if self.keeps and any("offload" in map(layer.of, ITEMS) for layer in self.schedule):
            self.offload = owner.idle.pop() if owner.idle else Offload(x.device)
        run = owner.run(self, len(x), x.device, "forward" if self.keeps else "reference")
        stream, update = self._layers(run, x)
        last = None
        if self.tile:
            stays = run.storage.stays(len(owner.layers) - 1, "middle")
            hidden, last = update, None if stays else stream
        else:
            hidden = torch.empty_like(update)
        final = owner.final
        _, last, rstd = run.ops.rms_norm_forward(
            update, final.weight.detach(), eps=final.eps, offset=final.offset,
            weight_fp32=final.weight_fp32, residual=stream, out=hidden,
            residual_out=torch.empty_like(update) if last is None else last,
        )  # fmt: skip
        run.tell(len(owner.layers), "final norm", hidden)
        if self.keeps:
            self.storage, self.last, self.rstd = run.storage, last, rstd
            # Scratch is of no use until the backward pass makes its own.
            self.storage.scratch = Workspace(x.device, owner.dtype)
        if self.offload is not None and capturing(hidden):
            self.offload.join()  # every copy belongs to the graph that ends here
        return hidden

    def _layers(self, run: Run, x: Tensor | Lookup) -> tuple[Tensor, Tensor]:
        """The residual stream after all layers, and what is still to be added to it."""
        stream, update = x, None
        for layer in self.owner.layers:
            if self.tile:
                stream, update = tiled_forward(run, layer, stream, update)
            elif isinstance(stream, Tensor):
                stream, update = layer_forward(run, layer, stream, update)
        assert isinstance(stream, Tensor)
        assert update is not None
        return stream, update

    def backward(
        self, grad: Tensor, *, to_input: bool
    ) -> tuple[Tensor | None, list[Tensor | None]]:
        """Gradients of x and of the owner's parameters."""
        owner, storage, last = self.owner, self.storage, self.last
        if storage is None or last is None:
            raise RuntimeError("the layers' backward pass ran before; its buffers are overwritten")
        run = owner.run(self, len(last), last.device, "backward")
        run.tell(len(owner.layers), "final norm", grad)
        storage.scratch = run.shared.scratch
        run.storage, self.storage, self.last = storage, None, None
        stream = self._final(run, last, grad)
        del last  # as large as the hidden states, and of no more use
        for layer in reversed(owner.layers):
            storage.fetch(layer.index - 1)
            one = tiled_backward if self.tile else layer_backward
            one(run, layer, stream, to_input=to_input or layer.index > 0)
            storage.release(layer.index)
        if self.offload is not None:
            self.offload.end()
            owner.idle.append(self.offload)
        hidden = owner.spec.hidden_size
        d_x = stream[:, :hidden].contiguous() if to_input else None
        return d_x, [run.shared.gradients.of(parameter) for parameter in owner.parameters]

    def _final(self, run: Run, last: Tensor, grad: Tensor) -> Tensor:
        """Through the final norm, into the buffer of the residual stream's gradient."""
        final, width = self.owner.final, self.owner.spec.hidden_size
        pads = max(layer.stream_width for layer in self.owner.layers)
        # Nobody else reads the gradient of the hidden states: what made it handed it over.
        stream = grad if self.tile else run.shared.scratch.get("stream_slope", len(last), pads)
        _, d_weight = run.ops.rms_norm_backward(
            grad, last, final.weight.detach(), self.rstd, offset=final.offset,
            weight_fp32=final.weight_fp32, out=stream[:, :width], need_weight_grad=final.trains,
        )  # fmt: skip
        if final.trains:
            run.shared.gradients.add(final.weight, d_weight)
        return stream


def capturing(x: Tensor) -> bool:
    """Whether what is launched now becomes part of a CUDA graph."""
    now: Any = torch.cuda.is_current_stream_capturing  # without types in some releases
    return x.is_cuda and bool(now())


class _Function(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, call: _Call, x: Tensor | None, *parameters: Tensor) -> Tensor:
        ctx.call = call
        ctx.to_input = ctx.needs_input_grad[1]
        given = call.lookup if x is None else x.detach()
        assert given is not None
        return call.forward(given)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_x, gradients = ctx.call.backward(grad.contiguous(), to_input=ctx.to_input)
        return None, d_x, *gradients
