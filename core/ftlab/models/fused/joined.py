"""A group of frozen projections in one product, with LoRA added beside it: what a CPU computes.

    forward  y = x W^T,  L = d(x) A^T,  y += s L B^T
    backward G = s dy B,  dx = dy W + d'(G A),   dA = G^T d(x),   dB = s dy^T L

W [N, K] holds the group's weights below each other, A their adapters' likewise. `folded` saves
launches and passes over memory by padding the product; a CPU would only compute the pads.
Hu et al. 2021, "LoRA".
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from ftlab.models.fused.products import wide_product
from ftlab.models.fused.targets import Pass, Projections, Target, add_bias, bias_gradients
from ftlab_kernels.lora_group import fold_weights


class JoinedGroup(Projections):
    """Projections [K -> N1 + N2 + ...] of frozen dense weights; see the module's formulas."""

    pad = 0
    operand_size = 0

    def __init__(self, parts: list[Target], inputs: int, arena: str) -> None:
        super().__init__(parts, inputs, arena)
        self.adapted = [part for part in parts if part.lora is not None]
        self.low = sum(len(part.lora.a) for part in self.adapted if part.lora)
        self.needs_input = bool(self.adapted)
        self.weight = _together([p.weight for p in parts if isinstance(p.weight, Tensor)])

    @staticmethod
    def takes(parts: list[Target], dtype: torch.dtype) -> bool:
        """Whether these are what it computes: frozen, dense, of the compute dtype, no DoRA."""
        return all(
            isinstance(part.weight, Tensor)
            and part.weight.dtype == dtype
            and not part.trains_weight
            and not (part.lora and part.lora.magnitude is not None)
            for part in parts
        )

    def forward(self, shared: Pass, x: Tensor, out: Tensor, low: Tensor, *, fresh: bool) -> None:
        """out [T, N] = y for x [T, K]; low [T, R] receives L, or is read where not `fresh`."""
        torch.mm(x, self.weight.t(), out=out)
        if fresh:
            self.lower(shared, x, low)
        for part in self.adapted:
            assert part.lora is not None
            b = part.lora.b.detach().to(x.dtype)
            out[:, part.rows].addmm_(low[:, part.ranks], b.t(), alpha=part.lora.scaling)
        add_bias(self.parts, out)

    def backward_input(self, shared: Pass, dy: Tensor, dx: Tensor, low: Tensor) -> None:
        """dx [T, K] from dy [T, N]; G is remembered for the parameters."""
        torch.mm(dy, self.weight, out=dx)
        if not self.adapted:
            return
        slopes = self._slopes(dy)
        shared.slopes[self.parts[0].site] = slopes
        if not self._drops(shared):
            dx.addmm_(slopes, self._a(dx.dtype))
            return
        for part in self.adapted:
            assert part.lora is not None
            share = slopes[:, part.ranks] @ part.lora.a.detach().to(dx.dtype)
            dx += part.dropped(share, shared)

    def backward_parameters(
        self, shared: Pass, dy: Tensor, x: Tensor, low: Tensor, *, slopes: bool = True
    ) -> None:
        """Gradients of A, B and biases; `slopes` False where G is not made yet."""
        bias_gradients(self.parts, dy, shared.gradients)
        if not self.adapted:
            return
        made = shared.slopes.pop(self.parts[0].site) if slopes else self._slopes(dy)
        joint = None if self._drops(shared) else wide_product(made.t(), x)
        for part in self.adapted:
            assert part.lora is not None
            if joint is None:
                d_a = wide_product(made[:, part.ranks].t(), part.dropped(x, shared))
            else:
                d_a = joint[part.ranks]
            shared.gradients.add(part.lora.a, d_a)
            d_b = wide_product(dy[:, part.rows].t(), low[:, part.ranks])
            shared.gradients.add(part.lora.b, d_b.mul_(part.lora.scaling))

    def lower(self, shared: Pass, x: Tensor, low: Tensor) -> None:
        """L of x [T, K] into low [T, R]."""
        if not self.adapted:
            return
        if not self._drops(shared):
            torch.mm(x, self._a(x.dtype).t(), out=low)
            return
        for part in self.adapted:
            assert part.lora is not None
            a = part.lora.a.detach().to(x.dtype)
            torch.mm(part.dropped(x, shared), a.t(), out=low[:, part.ranks])

    def _slopes(self, dy: Tensor) -> Tensor:
        """G [T, R]."""
        made = dy.new_empty(len(dy), self.low)
        for part in self.adapted:
            assert part.lora is not None
            place = made[:, part.ranks]
            torch.mm(dy[:, part.rows], part.lora.b.detach().to(dy.dtype), out=place)
            place.mul_(part.lora.scaling)
        return made

    def _a(self, dtype: torch.dtype) -> Tensor:
        """A of every target below each other, [R, K]."""
        found = [part.lora.a.detach().to(dtype) for part in self.adapted if part.lora]
        return found[0] if len(found) == 1 else torch.cat(found)

    def _drops(self, shared: Pass) -> bool:
        return any(part.dropout(shared) for part in self.adapted)


def _together(weights: list[Tensor]) -> Tensor:
    """The weights as one [N, K]; they are moved there, unless they lie so already."""
    first = weights[0].detach()
    if all(_follows(before, after) for before, after in pairwise(weights)):
        rows = sum(len(weight) for weight in weights)
        return first.as_strided((rows, first.shape[1]), first.stride())
    buffer, views = fold_weights([weight.detach() for weight in weights], 0)
    for weight, view in zip(weights, views, strict=True):
        weight.data = view
    return buffer


def _follows(before: Tensor, after: Tensor) -> bool:
    """Whether `after` begins in memory where `before` ends."""
    return (
        before.untyped_storage().data_ptr() == after.untyped_storage().data_ptr()
        and before.stride() == after.stride()
        and before.storage_offset() + len(before) * before.stride(0) == after.storage_offset()
    )
