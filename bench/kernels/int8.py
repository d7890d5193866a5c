"""int8 dequantisation."""

from __future__ import annotations

import torch
from timing import Bench, compiled
from torch import Tensor

from ftlab_kernels.int8 import Int8Weight, int8_dequantize


def rows(bench: Bench) -> None:
    """Measure."""
    N, K = 14336, 4096

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        values = torch.randint(-127, 128, (N, K), dtype=torch.int8, device="cuda")
        return values, torch.rand(N, device="cuda"), torch.empty_like(values, dtype=torch.bfloat16)

    def eager(values: Tensor, absmax: Tensor) -> Tensor:
        return Int8Weight(values, absmax).dequantise(torch.bfloat16)

    quick = compiled(lambda v, a: (v.float() * (a[:, None] / 127)).bfloat16())
    peers = {
        "ours": lambda v, a, out: int8_dequantize(Int8Weight(v, a), out=out),
        "torch eager": lambda v, a, out: eager(v, a),
        "torch.compile": lambda v, a, out: quick(v, a),
    }
    bench.compare("dequantize_int8", f"[{N}, {K}] bf16", make, peers, moved=N * K * 3)
