"""NF4 dequantisation with double quantisation, against bitsandbytes and Unsloth."""

from __future__ import annotations

import torch
from timing import Bench, peer
from torch import Tensor

from ftlab_kernels.nf4 import nf4_dequantize, quantize_nf4


def rows(bench: Bench) -> None:
    """Measure."""
    quantize = peer("bitsandbytes.functional", "quantize_4bit")
    dequantize = peer("bitsandbytes.functional", "dequantize_4bit")
    fast = peer("unsloth.kernels.utils", "fast_dequantize")
    for N, K in ((14336, 4096), (4096, 4096), (28672, 4096)):
        weights, states = {}, {}

        def make(seed: int, N: int = N, K: int = K) -> tuple[Tensor, ...]:
            torch.manual_seed(seed)
            value = torch.randn(N, K, dtype=torch.bfloat16, device="cuda") / 50
            ours = quantize_nf4(value)
            weights[ours.packed.data_ptr()] = ours
            if quantize is not None:
                _, state = quantize(value, quant_type="nf4", compress_statistics=True)
                states[ours.packed.data_ptr()] = state
            return ours.packed, torch.empty_like(value)

        padded = torch.empty(N, K + 64, dtype=torch.bfloat16, device="cuda")
        peers = {
            "ours": lambda p, out: nf4_dequantize(weights[p.data_ptr()], out=out),
            "ours, strided": lambda p, out: nf4_dequantize(
                weights[p.data_ptr()], out=padded[:, :4096]
            ),
            "bitsandbytes": dequantize
            and (lambda p, out: dequantize(p, states[p.data_ptr()], out=out)),
            "unsloth": fast and (lambda p, out: fast(p, states[p.data_ptr()], out=out)),
        }
        moved = N * K * (2 + 0.5 + 1 / 64)
        bench.compare("dequantize_nf4", f"[{N}, {K}] bf16", make, peers, moved=moved)
