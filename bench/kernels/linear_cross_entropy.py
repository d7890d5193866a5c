"""The head with its loss, Llama-3's vocabulary: loss and dh of a frozen head, and its products."""

from __future__ import annotations

import torch
from timing import Bench, peer
from torch import Tensor
from torch.nn import functional as F

from ftlab_kernels.linear_cross_entropy import (
    linear_cross_entropy_forward,
    linear_cross_entropy_forward_backward,
)

T, H, V = 4096, 4096, 128256


def rows(bench: Bench) -> None:
    """Measure."""
    liger = peer(
        "liger_kernel.ops.fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction"
    )
    torch.manual_seed(0)
    weight = torch.randn(V, H, dtype=torch.bfloat16, device="cuda") * 0.02
    labels = torch.randint(V, (T,), device="cuda")

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return (torch.randn(T, H, dtype=torch.bfloat16, device="cuda"),)

    def products(h: Tensor) -> None:
        logits = h @ weight.t()
        torch.mm(logits, weight)

    def with_liger(h: Tensor) -> None:
        leaf = h.detach().requires_grad_()
        loss = liger.apply(leaf, weight, labels)
        (loss[0] if isinstance(loss, tuple) else loss).backward()

    def eager(h: Tensor) -> None:
        leaf = h.detach().requires_grad_()
        F.cross_entropy((leaf @ weight.t()).float(), labels).backward()

    both = {
        "two bare matmuls": products,
        "ours": lambda h: linear_cross_entropy_forward_backward(h, weight, labels),
        "liger": liger and with_liger,
        "torch eager": eager,
    }
    case, flops = f"[{T}, {H}] x [{V}, {H}] bf16", 2 * T * H * V
    bench.compare("linear_cross_entropy, frozen", case, make, both, flops=2 * flops)
    d_weight = torch.zeros(V, H, device="cuda")
    trained = {
        "ours": lambda h: linear_cross_entropy_forward_backward(
            h, weight, labels, d_weight=d_weight
        )
    }
    bench.compare("linear_cross_entropy, trained", case, make, trained, flops=3 * flops)
    alone = {
        "bare matmul": lambda h: h @ weight.t(),
        "ours": lambda h: linear_cross_entropy_forward(h, weight, labels),
    }
    bench.compare("linear_logprob, forward", case, make, alone, flops=flops)
