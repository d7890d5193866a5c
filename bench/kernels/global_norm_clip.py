"""Clipping by the global norm: the fp32 gradients of LoRA r=16 on Llama-3-8B (448 tensors)."""

from __future__ import annotations

import torch
from timing import Bench
from torch import Tensor

from ftlab_kernels.global_norm_clip import global_norm_clip

SIDES = ((4096, 4096), (4096, 1024), (4096, 1024), (4096, 4096), (4096, 14336), (4096, 14336),
         (14336, 4096))  # fmt: skip


def rows(bench: Bench) -> None:
    """Measure."""
    parameters = []
    for _ in range(32):
        for fan_in, fan_out in SIDES:
            parameters += [torch.zeros(16, fan_in), torch.zeros(fan_out, 16)]
    total = sum(p.numel() for p in parameters)

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return tuple(torch.randn(p.shape, device="cuda") for p in parameters)

    def native(*grads: Tensor) -> Tensor:
        norm = torch.nn.utils.get_total_norm(grads, foreach=True)
        torch._foreach_mul_(grads, (1.0 / (norm + 1e-6)).clamp(max=1.0))
        return norm

    kept: dict[int, list[Tensor]] = {}
    peers = {
        "ours": lambda *grads: global_norm_clip(kept.setdefault(id(grads), list(grads)), 1.0),
        "torch foreach": native,
    }
    bench.compare(
        "global_norm_clip", f"{len(parameters)} tensors", make, peers, moved=3 * total * 4
    )
