"""A group of frozen projections whose LoRA is folded into the products' inner dimension.

    operand  M = [[W, s B], [A, 0]]              [N + R, K + R]; s B is block-diagonal over targets
    forward  L = x A^T,   y = [x | L] [W | s B]^T
    backward G = dy s B,  dx = [dy | G] [W ; A],   dA = G^T x,  dB = s dy^T L

One product each way instead of one and two skinny ones. x and dy come in buffers that are R wider;
the quantised weight is expanded straight into M. With dropout each target has its own L and its
own share of dx. Hu et al. 2021, "LoRA".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab.models.fused.products import expand, wide_product
from ftlab.models.fused.targets import Pass, Target, add_bias, bias_gradients

_ALIGN = 16  # elements; keeps every row on 32 bytes


class FoldedGroup:
    """Projections [K -> N1 + N2 + ...] with frozen weights; see the module's formulas."""

    def __init__(self, parts: list[Target], inputs: int, arena: str) -> None:
        self.parts = parts
        self.arena = arena
        self.inputs = inputs
        self.outputs = parts[-1].stop
        ranks = sum(part.lora.a.shape[0] for part in parts if part.lora)
        self.ranks = ranks
        self.low = -(-ranks // _ALIGN) * _ALIGN  # columns of x A^T, padded
        self.pad = self.low  # columns that buffers of x and dy have beyond K and N
        self.trains = any(part.trains for part in parts)
        self.needs_input = ranks > 0  # for parameter gradients

    @property
    def operand_size(self) -> int:
        """Elements of M."""
        return (self.outputs + self.pad) * (self.inputs + self.pad)

    def forward(self, shared: Pass, x: Tensor, out: Tensor, low: Tensor, *, fresh: bool) -> None:
        """out [T, N] = y.

        Args:
            x: [T, K + R], its last R columns are overwritten.
            low: [T, R], receives L; read instead where it is not `fresh` (a second computation).
        """
        operand, k, n = self._operand(shared), self.inputs, self.outputs
        if self.pad:
            if fresh:
                self._project(shared, operand, x[:, :k], low)
            x[:, k:].copy_(low)
        torch.mm(x, operand[:n].t(), out=out)
        add_bias(self.parts, out)

    def backward_input(self, shared: Pass, dy: Tensor, dx: Tensor) -> None:
        """dx [T, K] from dy [T, N + R], whose last R columns receive G."""
        operand, k, n = self._operand(shared), self.inputs, self.outputs
        if not self.pad:
            torch.mm(dy, operand, out=dx)
            return
        self._slopes(operand, dy)
        if not any(part.dropout(shared) for part in self.parts):
            torch.mm(dy, operand[:, :k], out=dx)
            return
        torch.mm(dy[:, :n], operand[:n, :k], out=dx)
        for part in self.parts:
            if part.lora is not None:
                rows = slice(n + part.ranks.start, n + part.ranks.stop)
                dx += part.dropped(dy[:, rows] @ operand[rows, :k], shared)

    def backward_parameters(
        self, shared: Pass, dy: Tensor, x: Tensor, low: Tensor, *, slopes: bool = True
    ) -> None:
        """Gradients of A, B and biases; `slopes` False where G is not in dy yet."""
        k, n = self.inputs, self.outputs
        bias_gradients(self.parts, dy, shared.gradients)
        if not self.pad:
            return
        if not slopes:
            self._slopes(self._operand(shared), dy)
        whole = None
        if not any(part.dropout(shared) for part in self.parts):
            whole = wide_product(dy[:, n : n + self.ranks].t(), x[:, :k])
        for part in self.parts:
            if part.lora is None:
                continue
            if whole is not None:
                d_a = whole[part.ranks]
            else:
                rows = slice(n + part.ranks.start, n + part.ranks.stop)
                d_a = wide_product(dy[:, rows].t(), part.dropped(x[:, :k], shared))
            d_b = wide_product(dy[:, part.rows].t(), low[:, part.ranks])
            shared.gradients.add(part.lora.a, d_a)
            shared.gradients.add(part.lora.b, d_b.mul_(part.lora.scaling))

    def _project(self, shared: Pass, operand: Tensor, x: Tensor, low: Tensor) -> None:
        n, k = self.outputs, self.inputs
        if not any(part.dropout(shared) for part in self.parts):
            torch.mm(x, operand[n:, :k].t(), out=low)
            return
        low[:, self.ranks :].zero_()
        for part in self.parts:
            if part.lora is not None:
                rows = slice(n + part.ranks.start, n + part.ranks.stop)
                torch.mm(part.dropped(x, shared), operand[rows, :k].t(), out=low[:, part.ranks])

    def _slopes(self, operand: Tensor, dy: Tensor) -> None:
        n = self.outputs
        torch.mm(dy[:, :n], operand[:n, self.inputs :], out=dy[:, n:])

    def _operand(self, shared: Pass) -> Tensor:
        """M in its arena, written there unless it is what lies there."""
        scratch, k, n = shared.scratch, self.inputs, self.outputs
        operand = scratch.arena(self.arena, n + self.pad, k + self.pad)
        if scratch.content.get(self.arena) is self:
            return operand
        scratch.content[self.arena] = self
        for part in self.parts:
            expand(part.weight, operand[part.rows, :k])
        if self.pad:
            self._write_adapters(operand)
        return operand

    def _write_adapters(self, operand: Tensor) -> None:
        k, n = self.inputs, self.outputs
        operand[:n, k:].zero_()
        operand[n + self.ranks :, :k].zero_()
        for part in self.parts:
            if part.lora is not None:
                columns = slice(k + part.ranks.start, k + part.ranks.stop)
                rows = slice(n + part.ranks.start, n + part.ranks.stop)
                scaled = part.lora.b.detach() * part.lora.scaling
                operand[part.rows, columns].copy_(scaled)
                operand[rows, :k].copy_(part.lora.a.detach())
