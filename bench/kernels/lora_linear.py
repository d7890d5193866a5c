"""LoRA at Llama-3-8B's shapes, 4,096 tokens, r 16: forward and backward, beside bare products."""

from __future__ import annotations

import torch
from timing import Bench
from torch import Tensor

from ftlab_kernels.lora_group import Adapter, Linear, LoraGroup, fold_weights
from ftlab_kernels.lora_linear import lora_backward, lora_forward
from ftlab_kernels.nf4 import nf4_dequantize, quantize_nf4

T, R = 4096, 16
SHAPES = {
    "q,k,v": (4096, (4096, 1024, 1024)),
    "o": (4096, (4096,)),
    "gate,up": (4096, (14336, 14336)),
    "down": (14336, (4096,)),
}


def rows(bench: Bench) -> None:
    """Measure."""
    for name, (K, features) in SHAPES.items():
        for kind in ("bf16", "nf4"):
            _case(bench, name, kind, K, features)


def _case(bench: Bench, name: str, kind: str, K: int, features: tuple[int, ...]) -> None:
    N = sum(features)
    dense = [torch.randn(n, K, dtype=torch.bfloat16, device="cuda") * 0.02 for n in features]
    adapters = [
        Adapter(torch.randn(R, K, device="cuda") * 0.02, torch.randn(n, R, device="cuda"), 2.0)
        for n in features
    ]
    held, views = fold_weights(dense, 64)
    weights = [quantize_nf4(w) for w in dense] if kind == "nf4" else views
    linears = [Linear(w, None, a) for w, a in zip(weights, adapters, strict=True)]
    group = LoraGroup(tuple(linears), folded=None if kind == "nf4" else held)
    plain = torch.empty(N, K, dtype=torch.bfloat16, device="cuda")
    plain.copy_(torch.cat(dense))
    out = torch.empty(T, N, dtype=torch.bfloat16, device="cuda")
    dx = torch.empty(T, K, dtype=torch.bfloat16, device="cuda")

    def expand() -> Tensor:
        if kind == "nf4":
            for target, weight in enumerate(weights):
                nf4_dequantize(weight, out=plain[group.part(target)])
        return plain

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        x = torch.randn(T, K + group.pad, dtype=torch.bfloat16, device="cuda")
        dy = torch.randn(T, N + group.pad, dtype=torch.bfloat16, device="cuda")
        return x, dy, x[:, :K].contiguous(), dy[:, :N].contiguous()

    def bare(x: Tensor, dy: Tensor, thin_x: Tensor, thin_dy: Tensor) -> None:
        torch.mm(thin_x, expand().t(), out=out)
        torch.mm(thin_dy, expand(), out=dx)

    def ours(x: Tensor, dy: Tensor, thin_x: Tensor, thin_dy: Tensor) -> None:
        _, saved = lora_forward(x, group, out=out, weight_buffer=held)
        lora_backward(dy, x, group, saved, dx=dx, weight_buffer=held)

    def separate(x: Tensor, dy: Tensor, thin_x: Tensor, thin_dy: Tensor) -> None:
        weight = expand()
        torch.mm(thin_x, weight.t(), out=out)
        lows = []
        for target, one in enumerate(adapters):
            a, b = one.a.bfloat16(), one.b.bfloat16()
            lows.append(thin_x @ a.t())
            out[:, group.part(target)].addmm_(lows[-1], b.t(), alpha=2.0)
        torch.mm(thin_dy, expand(), out=dx)
        for target, one in enumerate(adapters):
            a, b = one.a.bfloat16(), one.b.bfloat16()
            part = thin_dy[:, group.part(target)]
            v = part @ b * 2.0
            dx.addmm_(v, a)
            (v.t() @ thin_x).float()
            (part.t() @ lows[target] * 2.0).float()

    peers = {"bare base products": bare, "ours": ours, "base + skinny products": separate}
    case = f"{name} {kind}, K {K}, N {N}"
    bench.compare("lora_linear fwd+bwd", case, make, peers, flops=4 * T * K * N)
