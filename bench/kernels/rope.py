"""Rope on the q and k of a fused buffer, in place; with Qwen3's head norm."""

from __future__ import annotations

import torch
from timing import Bench, compiled, peer
from torch import Tensor

from ftlab_kernels.reference.rope import rope as reference
from ftlab_kernels.rope import rope_, rope_norm_backward, rope_norm_forward


def rows(bench: Bench) -> None:
    """Measure."""
    for T, HQ, HK, D in ((8192, 32, 8, 128), (4096, 32, 8, 64), (8192, 4, 1, 256)):
        moved = 2 * T * (HQ + HK) * D * 2
        case = f"[{T}, {HQ}+{HK}, {D}] bf16"
        angle = torch.arange(T, device="cuda")[:, None] / 1e4 ** torch.linspace(
            0, 1, D // 2, device="cuda"
        )
        cos, sin = angle.cos().bfloat16(), angle.sin().bfloat16()
        double = [torch.cat((x, x), 1)[None] for x in (cos, sin)]

        def make(
            seed: int, T: int = T, HQ: int = HQ, HK: int = HK, D: int = D
        ) -> tuple[Tensor, ...]:
            torch.manual_seed(seed)
            buffer = torch.randn(T, (HQ + 2 * HK) * D, dtype=torch.bfloat16, device="cuda")
            q, k, _ = buffer.split([HQ * D, HK * D, HK * D], 1)
            return q.unflatten(1, (-1, D)), k.unflatten(1, (-1, D))

        quick = compiled(lambda q, k, cos=cos, sin=sin: reference(q, k, cos, sin))
        liger = peer("liger_kernel.ops.rope", "rope_forward")
        fast = peer("unsloth.kernels.rope_embedding", "Fast_RoPE_Embedding_QK")
        layout = lambda x: x[None].transpose(1, 2)  # noqa: E731  # [1, heads, T, D], a view
        peers = {
            "ours": lambda q, k: rope_(q, k, cos, sin),
            "liger": liger and (lambda q, k: liger(layout(q), layout(k), *double)),
            "unsloth": fast
            and (lambda q, k: fast.apply(layout(q), layout(k), double[0][0], double[1][0], None)),
            "torch eager": lambda q, k: reference(q, k, cos, sin),
            "torch.compile": lambda q, k: quick(q, k),
        }
        bench.compare("rope", case, make, peers, moved=moved)
        weight = torch.ones(D, dtype=torch.bfloat16, device="cuda")
        normed = compiled(
            lambda q, k, cos=cos, sin=sin, w=weight: reference(
                q, k, cos, sin, q_weight=w, k_weight=w
            )
        )
        peers = {
            "ours": lambda q, k: rope_norm_forward(q, k, cos, sin, weight, weight, eps=1e-6),
            "torch.compile": lambda q, k: normed(q, k),
        }
        bench.compare("rope + head norm", case, make, peers, moved=moved)
        rstd = torch.rand(T, HQ + HK, device="cuda")
        dq = torch.randn(T, HQ, D, dtype=torch.bfloat16, device="cuda")
        dk = torch.randn(T, HK, D, dtype=torch.bfloat16, device="cuda")
        ours = lambda q, k: rope_norm_backward(  # noqa: E731
            dq, dk, q, k, cos, sin, weight, weight, rstd
        )
        bench.compare("rope + head norm bwd", case, make, {"ours": ours}, moved=1.5 * moved)
