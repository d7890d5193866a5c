"""LayerNorm: forward, and backward with and without the weights' gradients."""

from __future__ import annotations

import torch
from timing import Bench, compiled, peer
from torch import Tensor
from torch.nn import functional as F

from ftlab_kernels.layer_norm import layer_norm_backward, layer_norm_forward

EPS = 1e-5


def rows(bench: Bench) -> None:
    """Measure."""
    T, H = 8192, 4096
    weight, bias = (torch.randn(H, dtype=torch.bfloat16, device="cuda") for _ in range(2))

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        x, grad = (torch.randn(T, H, dtype=torch.bfloat16, device="cuda") for _ in range(2))
        return x, grad, *layer_norm_forward(x, weight, bias, eps=EPS)[2:]

    def eager(x: Tensor) -> Tensor:
        return F.layer_norm(x, (H,), weight, bias, EPS)

    quick = compiled(eager)
    liger = peer("liger_kernel.ops.layer_norm", "layer_norm_forward")
    forward = {
        "ours": lambda x, g, m, r: layer_norm_forward(x, weight, bias, eps=EPS),
        "liger": liger and (lambda x, g, m, r: liger(x, weight, bias, EPS)),
        "torch eager": lambda x, g, m, r: eager(x),
        "torch.compile": lambda x, g, m, r: quick(x),
    }
    bench.compare("layer_norm forward", f"[{T}, {H}] bf16", make, forward, moved=2 * T * H * 2)
    native = torch.ops.aten.native_layer_norm_backward

    def torch_backward(x: Tensor, g: Tensor, m: Tensor, r: Tensor, weights: bool) -> object:
        mask = [True, weights, weights]
        return native(g, x, [H], m[:, None], r[:, None], weight, bias, mask)

    backward = {
        "ours": lambda x, g, m, r: layer_norm_backward(g, x, weight, m, r),
        "ours, dweight": lambda x, g, m, r: layer_norm_backward(
            g, x, weight, m, r, need_weight_grad=True
        ),
        "torch eager": lambda x, g, m, r: torch_backward(x, g, m, r, False),
        "torch, dweight": lambda x, g, m, r: torch_backward(x, g, m, r, True),
    }
    bench.compare("layer_norm backward", f"[{T}, {H}] bf16", make, backward, moved=3 * T * H * 2)
