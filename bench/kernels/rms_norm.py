"""RMSNorm with the residual addition: forward, and backward for LoRA."""

from __future__ import annotations

import torch
from timing import Bench, compiled, gradients, peer
from torch import Tensor

from ftlab_kernels.reference.rms_norm import rms_norm as reference
from ftlab_kernels.rms_norm import rms_norm, rms_norm_backward, rms_norm_forward

EPS = 1e-5
SHAPES = ((8192, 4096), (4096, 4096), (8192, 576), (65536, 128), (2048, 16384))


def rows(bench: Bench) -> None:
    """Measure."""
    for T, H in SHAPES:
        plain(bench, T, H)
    for T, H in SHAPES[:2]:
        residual(bench, T, H)


def plain(bench: Bench, T: int, H: int) -> None:
    """y = norm(x) and its dx."""
    weight = torch.randn(H, dtype=torch.bfloat16, device="cuda").requires_grad_(False)

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        x = torch.randn(T, H, dtype=torch.bfloat16, device="cuda")
        return x, torch.randn_like(x), rms_norm_forward(x, weight, eps=EPS)[2]

    def eager(x: Tensor) -> Tensor:
        return reference(x, weight, EPS)

    liger = peer("liger_kernel.ops.rms_norm", "LigerRMSNormFunction")
    unsloth = peer("unsloth.kernels.rms_layernorm", "Fast_RMS_Layernorm")
    quick = compiled(eager)
    forward = {
        "ours": lambda x, g, r: rms_norm_forward(x, weight, eps=EPS),
        "liger": liger and (lambda x, g, r: liger.apply(x, weight, EPS, 0.0, "llama", False)),
        "unsloth": unsloth and (lambda x, g, r: unsloth.apply(x, weight, EPS, False)),
        "torch eager": lambda x, g, r: eager(x),
        "torch.compile": lambda x, g, r: quick(x),
    }
    bench.compare("rms_norm forward", f"[{T}, {H}] bf16", make, forward, moved=2 * T * H * 2)

    def graph(op: object) -> object:
        def both(x: Tensor, g: Tensor, r: Tensor) -> object:
            key = x.data_ptr()
            if key not in kept:
                leaf = x.detach().requires_grad_()
                kept[key] = (op(leaf), leaf)  # type: ignore[operator]
            return gradients(kept[key][0], [kept[key][1]], g)

        kept: dict[int, tuple[Tensor, Tensor]] = {}
        return both

    backward = {
        "ours": lambda x, g, r: rms_norm_backward(g, x, weight, r),
        "ours autograd": graph(lambda x: rms_norm(x, weight, EPS)),
        "liger": liger and graph(lambda x: liger.apply(x, weight, EPS, 0.0, "llama", False)),
        "unsloth": unsloth and graph(lambda x: unsloth.apply(x, weight, EPS, False)),
        "torch eager": graph(eager),
        "torch.compile": graph(quick),
    }
    bench.compare("rms_norm backward", f"[{T}, {H}] bf16", make, backward, moved=3 * T * H * 2)


def residual(bench: Bench, T: int, H: int) -> None:
    """h = x + residual, y = norm(h); backward adds the residual's gradient."""
    weight = torch.randn(H, dtype=torch.bfloat16, device="cuda")

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return tuple(torch.randn(T, H, dtype=torch.bfloat16, device="cuda") for _ in range(3))

    def eager(x: Tensor, res: Tensor) -> object:
        return reference(x, weight, EPS, residual=res)

    liger = peer("liger_kernel.ops.fused_add_rms_norm", "LigerFusedAddRMSNormFunction")
    quick = compiled(eager)
    forward = {
        "ours": lambda x, res, g: rms_norm_forward(x, weight, eps=EPS, residual=res),
        "liger": liger
        and (lambda x, res, g: liger.apply(x, res, weight, EPS, 0.0, "llama", False)),
        "torch eager": lambda x, res, g: eager(x, res),
        "torch.compile": lambda x, res, g: quick(x, res),
    }
    bench.compare("rms_norm + residual", f"[{T}, {H}] bf16", make, forward, moved=4 * T * H * 2)
    rstd = torch.rand(T, device="cuda")
    backward = {
        "ours": lambda h, res, g: rms_norm_backward(g, h, weight, rstd, grad_residual=res),
        "ours, dweight": lambda h, res, g: rms_norm_backward(
            g, h, weight, rstd, grad_residual=res, need_weight_grad=True
        ),
    }
    bench.compare(
        "rms_norm + residual bwd", f"[{T}, {H}] bf16", make, backward, moved=4 * T * H * 2
    )
