"""A group of projections computed one by one: trained weights, DoRA, weights of another dtype.

    LoRA  y = x W^T + b + s L B^T,                      L = d(x) A^T
    DoRA  y = x W^T + b + (c - 1) z + c s L B^T,        z = d(x) W^T,  c = m / ||W + s B A||
    with e = c dy (dy for LoRA),  G = s e B:
    dx = dy W + d'((c - 1) dy W + G A),  dW = dy^T x,  dA = G^T d(x),  dB = s e^T L,
    dm = sum_t dy (z + s L B^T) / ||W + s B A||          d': the mask and scale of dropout

Trained weights are never quantised and carry no adapter. Hu et al. 2021, "LoRA"; Liu et al. 2024,
"DoRA".
"""

from __future__ import annotations

import torch
from torch import Tensor

from ftlab.models.fused.products import dense, wide_product
from ftlab.models.fused.targets import Pass, Projections, Target, add_bias, bias_gradients
from ftlab_kernels.reference.lora_linear import weight_norm


class SeparateGroup(Projections):
    """Projections [K -> N1 + N2 + ...] of any kind; see the module's formulas."""

    pad = 0
    operand_size = 0

    def __init__(self, parts: list[Target], inputs: int, arena: str) -> None:
        super().__init__(parts, inputs, arena)
        self.low = sum(part.lora.a.shape[0] for part in parts if part.lora)
        self.needs_input = any(part.lora or part.trains_weight for part in parts)

    def forward(self, shared: Pass, x: Tensor, out: Tensor, low: Tensor, *, fresh: bool) -> None:
        """out [T, N] = y for x [T, K]; low [T, R] receives L, or is read where not `fresh`."""
        for part in self.parts:
            weight, y = dense(part.weight, x.dtype), out[:, part.rows]
            torch.mm(x, weight.t(), out=y)
            lora = part.lora
            if lora is None:
                continue
            b, dropped = lora.b.detach().to(x.dtype), part.dropped(x, shared)
            if fresh:
                _lower(part, dropped, low)
            if lora.magnitude is None:
                y.addmm_(low[:, part.ranks], b.t(), alpha=lora.scaling)
                continue
            ratio = _ratio(part).to(x.dtype)
            inner = y if dropped is x else dropped @ weight.t()
            y += (ratio - 1) * inner + ratio * (lora.scaling * (low[:, part.ranks] @ b.t()))
        add_bias(self.parts, out)

    def lower(self, shared: Pass, x: Tensor, low: Tensor) -> None:
        """L of x [T, K] into low [T, R]."""
        for part in self.parts:
            if part.lora is not None:
                _lower(part, part.dropped(x, shared), low)

    def backward_input(self, shared: Pass, dy: Tensor, dx: Tensor, low: Tensor) -> None:
        """dx [T, K] from dy [T, N]."""
        for number, part in enumerate(self.parts):
            weight, grad = dense(part.weight, dy.dtype), dy[:, part.rows]
            torch.mm(grad, weight, out=dx) if number == 0 else dx.addmm_(grad, weight)
            if part.lora is None:
                continue
            through = self._through(shared, part, grad)
            shared.slopes[part.site] = through  # the parameters' gradients need it next
            a = part.lora.a.detach().to(dy.dtype)
            if part.lora.magnitude is None and not part.dropout(shared):
                dx.addmm_(through, a)
                continue
            share = through @ a
            if part.lora.magnitude is not None:
                share += ((_ratio(part).to(dy.dtype) - 1) * grad) @ weight
            dx += part.dropped(share, shared)

    def backward_parameters(
        self, shared: Pass, dy: Tensor, x: Tensor, low: Tensor, *, slopes: bool = True
    ) -> None:
        """Gradients of weights, biases, A, B and magnitudes; G is known where `slopes`."""
        gradients = shared.gradients
        bias_gradients(self.parts, dy, gradients)
        for part in self.parts:
            grad = dy[:, part.rows]
            if part.trains_weight:
                assert isinstance(part.weight, Tensor)
                gradients.add(part.weight, wide_product(grad.t(), x))
            if part.lora is None:
                continue
            lora, slope, b = part.lora, self._slope(part, grad), part.lora.b.to(dy.dtype)
            dropped = part.dropped(x, shared)
            known = shared.slopes.pop(part.site) if slopes else None
            through = self._through(shared, part, grad) if known is None else known
            gradients.add(lora.a, wide_product(through.t(), dropped))
            d_b = wide_product(slope.t(), low[:, part.ranks])
            gradients.add(lora.b, d_b.mul_(lora.scaling))
            if lora.magnitude is not None:
                weight = dense(part.weight, x.dtype)
                inner = dropped @ weight.t() + lora.scaling * (low[:, part.ranks] @ b.t())
                wide = torch.promote_types(dy.dtype, torch.float32)
                total = (grad.to(wide) * inner.to(wide)).sum(0)
                gradients.add(lora.magnitude, total / _norm(part))

    def _through(self, shared: Pass, part: Target, grad: Tensor) -> Tensor:
        """G [T, r]."""
        assert part.lora is not None
        slope = self._slope(part, grad)
        return (slope @ part.lora.b.detach().to(grad.dtype)).mul_(part.lora.scaling)

    @staticmethod
    def _slope(part: Target, grad: Tensor) -> Tensor:
        """e [T, N]: what the low-rank product is multiplied with."""
        assert part.lora is not None
        return grad if part.lora.magnitude is None else _ratio(part).to(grad.dtype) * grad


def _lower(part: Target, dropped: Tensor, low: Tensor) -> None:
    assert part.lora is not None
    a = part.lora.a.detach().to(dropped.dtype)
    torch.mm(dropped, a.t(), out=low[:, part.ranks])


def _norm(part: Target) -> Tensor:
    assert part.lora is not None
    weight = part.weight.detach() if isinstance(part.weight, Tensor) else part.weight
    return weight_norm(weight, part.lora.a.detach(), part.lora.b.detach(), part.lora.scaling)


def _ratio(part: Target) -> Tensor:
    assert part.lora is not None
    assert part.lora.magnitude is not None
    return part.lora.magnitude.detach() / _norm(part)
