"""A group of frozen projections whose LoRA is folded into the products' inner dimension.

    operand  M = [[W, s B], [A, 0]]              [N + P, K + P]; s B is block-diagonal over targets
    forward  L = d(x) A^T,  y = [x | L] [W | s B]^T
    backward G = dy s B,    dx = [dy | G] [W ; A],   dA = G^T d(x),   dB = s dy^T L

One large product each way; the skinny ones are `ftlab_kernels`' own. x and dy come in buffers that
are P wider. A quantised weight is expanded into M, an arena that layers share; 16-bit weights live
in an M of their own, into which the model's parameters are moved. With dropout each target adds its
share of dx by itself. Hu et al. 2021, "LoRA".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab.models.fused.products import expand
from ftlab.models.fused.targets import Pass, Projections, Target, add_bias, bias_gradients
from ftlab_kernels import lora_down, lora_fold, lora_up
from ftlab_kernels.lora_group import Adapter, Linear, LoraGroup, fold_weights
from ftlab_kernels.lora_sum import sum_parts


class FoldedGroup(Projections):
    """Projections [K -> N1 + N2 + ...] with frozen weights; see the module's formulas."""

    def __init__(self, parts: list[Target], inputs: int, arena: str) -> None:
        super().__init__(parts, inputs, arena)
        self.group = LoraGroup(tuple(_linear(part) for part in parts))
        self.pad = self.low = self.group.pad
        self.own: Tensor | None = None  # M where it is not shared
        self.needs_input = self.pad > 0  # for parameter gradients

    @property
    def operand_size(self) -> int:
        """Elements of M in the shared arena."""
        return 0 if self.own is not None else (self.outputs + self.pad) * (self.inputs + self.pad)

    def settle(self) -> None:
        """Move 16-bit weights into an M of their own; the parameters become views of it."""
        weights = [part.weight for part in self.parts]
        held = [weight for weight in weights if isinstance(weight, Tensor)]
        assert len(held) == len(weights), "quantised weights are expanded instead"
        self.own, views = fold_weights([weight.detach() for weight in held], self.pad)
        for weight, view in zip(held, views, strict=True):
            weight.data = view

    def forward(self, shared: Pass, x: Tensor, out: Tensor, low: Tensor, *, fresh: bool) -> None:
        """out [T, N] = y.

        Args:
            x: [T, K + P], its last P columns are overwritten.
            low: [T, P], receives L; read instead where it is not `fresh` (a second computation).
        """
        operand, k, n = self._operand(shared), self.inputs, self.outputs
        if self.pad:
            if fresh:
                self.lower(shared, x, low)
            x[:, k:].copy_(low)
        torch.mm(x, operand[:n].t(), out=out)
        add_bias(self.parts, out)

    def lower(self, shared: Pass, x: Tensor, low: Tensor) -> None:
        """L into low [T, P], from the first K columns of x."""
        if self.pad:
            k, operand = self.inputs, self._operand(shared)
            lora_down.project(
                x[:, :k], operand[self.outputs :, :k], self.group.columns,
                seeds=self._seeds(shared), out=low, start=shared.first,
            )  # fmt: skip

    def backward_input(self, shared: Pass, dy: Tensor, dx: Tensor, low: Tensor) -> None:
        """dx [T, K] from dy [T, N + P], whose last P columns receive G; gradients of B."""
        operand, k, n = self._operand(shared), self.inputs, self.outputs
        if not self.pad:
            torch.mm(dy, operand, out=dx)
            return
        self._slopes(shared, operand, dy, low)
        seeds = self._seeds(shared)
        if seeds is None:
            torch.mm(dy, operand[:, :k], out=dx)
            return
        torch.mm(dy[:, :n], operand[:n, :k], out=dx)
        lora_down.add_masked(
            dx, dy[:, n:], operand[n:, :k], self.group.columns, seeds, start=shared.first
        )

    def backward_parameters(
        self, shared: Pass, dy: Tensor, x: Tensor, low: Tensor, *, slopes: bool = True
    ) -> None:
        """Gradients of A and biases; `slopes` False where G and B's are not made yet."""
        k, n, group = self.inputs, self.outputs, self.group
        bias_gradients(self.parts, dy, shared.gradients)
        if not self.pad:
            return
        if not slopes:
            self._slopes(shared, self._operand(shared), dy, low)
        found = lora_down.grad_a_parts(
            dy[:, n:], x[:, :k], group.columns, seeds=self._seeds(shared), start=shared.first
        )
        self._sum(shared, found, "a", group.columns.firsts, [1.0] * len(self.parts))

    def _slopes(self, shared: Pass, operand: Tensor, dy: Tensor, low: Tensor) -> None:
        """G into dy's last columns, and the gradients of B, in one reading of dy."""
        n, group = self.outputs, self.group
        found = lora_up.up(
            dy[:, :n], operand[:n, self.inputs :], low, group.rows, group.columns, v=dy[:, n:]
        )
        scales = [part.lora.scaling if part.lora else 0.0 for part in self.parts]
        self._sum(shared, found, "b", group.rows[:-1], scales)

    def _sum(
        self, shared: Pass, found: Tensor, name: str, firsts: tuple[int, ...], scales: list[float]
    ) -> None:
        """Add up the parts of a gradient, in fp32, into each target's A or B."""
        adapted = [getattr(part.lora, name) if part.lora else None for part in self.parts]
        sinks = [shared.gradients.sinks.get(id(parameter)) for parameter in adapted]
        if all(a is None or _takes(s, found) for a, s in zip(adapted, sinks, strict=True)):
            sum_parts(found, sinks, firsts, scales, accumulate=True)
            return
        outs = [a if a is None else torch.empty_like(a, dtype=found.dtype) for a in adapted]
        sum_parts(found, outs, firsts, scales, accumulate=False)
        for parameter, grad in zip(adapted, outs, strict=True):
            if parameter is not None and grad is not None:
                shared.gradients.add(parameter, grad)

    def _seeds(self, shared: Pass) -> Tensor | None:
        """Keys of the targets' dropout on the device; None where nothing is dropped."""
        if shared.rng is None or not self.group.columns.drops_any:
            return None
        return shared.seeds(self.parts[0].site, len(self.parts))

    def _operand(self, shared: Pass) -> Tensor:
        """M, in its arena and written there unless it is what lies there."""
        k, n, scratch = self.inputs, self.outputs, shared.scratch
        if self.own is not None:
            operand = self.own
        else:
            operand = scratch.arena(self.arena, n + self.pad, k + self.pad)
            if scratch.content.get(self.arena) is self:
                return operand
            scratch.content[self.arena] = self
            for part in self.parts:
                expand(part.weight, operand[part.rows, :k])
        if self.pad and self not in scratch.margins:
            lora_fold.write_margins(self.group, operand)
            if self.own is not None:
                scratch.margins.add(self)  # they stay right for the whole pass
        return operand


def _takes(sink: Tensor | None, found: Tensor) -> bool:
    return sink is not None and sink.dtype == found.dtype and sink.is_contiguous()


def _linear(part: Target) -> Linear:
    """The target as the kernels take it; biases are added apart, because they may be trained."""
    lora = part.lora
    made = None if lora is None else Adapter(lora.a, lora.b, lora.scaling, lora.dropout)
    return Linear(part.weight, None, made)
