"""SwiGLU on contiguous gate and up: forward, and backward in one pass."""

from __future__ import annotations

import torch
from timing import Bench, compiled, gradients, peer
from torch import Tensor

from ftlab_kernels.reference.swiglu import swiglu as reference
from ftlab_kernels.swiglu import swiglu_backward, swiglu_forward


def rows(bench: Bench) -> None:
    """Measure."""
    quick = compiled(reference)
    liger = peer("liger_kernel.ops.swiglu", "LigerSiLUMulFunction")
    fast_forward = peer("unsloth.kernels.swiglu", "swiglu_fg_kernel")
    fast_backward = peer("unsloth.kernels.swiglu", "swiglu_DWf_DW_dfg_kernel")
    for T, width in ((8192, 4096), (4096, 14336)):
        case = f"[{T}, {width}] bf16"

        def make(seed: int, T: int = T, width: int = width) -> tuple[Tensor, ...]:
            torch.manual_seed(seed)
            return tuple(
                torch.randn(T, width, dtype=torch.bfloat16, device="cuda") for _ in range(3)
            )

        forward = {
            "ours": lambda g, u, d: swiglu_forward(g, u),
            "liger": liger and (lambda g, u, d: liger.apply(g, u)),
            "unsloth": fast_forward and (lambda g, u, d: fast_forward(g[None], u[None])),
            "torch eager": lambda g, u, d: reference(g, u),
            "torch.compile": lambda g, u, d: quick(g, u),
        }
        bench.compare("swiglu forward", case, make, forward, moved=3 * T * width * 2)

        def autograd(op: object, g: Tensor, u: Tensor, d: Tensor) -> object:
            key = (id(op), g.data_ptr())
            if key not in kept:
                leaves = [x.detach().requires_grad_() for x in (g, u)]
                kept[key] = (op(*leaves), leaves)  # type: ignore[operator]
            return gradients(*kept[key], d)

        kept: dict[tuple[int, int], tuple[Tensor, list[Tensor]]] = {}
        backward = {
            "ours": lambda g, u, d: swiglu_backward(d, g, u),
            "ours, in place": lambda g, u, d: swiglu_backward(d, g, u, d_gate=g, d_up=u),
            "torch eager": lambda g, u, d: autograd(reference, g, u, d),
            "torch.compile": lambda g, u, d: autograd(quick, g, u, d),
        }
        bench.compare("swiglu backward", case, make, backward, moved=5 * T * width * 2)
        kept.clear()
        low = peer("liger_kernel.ops.swiglu", "swiglu_backward")
        with_y = {  # these overwrite their inputs: measured last
            "ours, with y": lambda g, u, d: swiglu_backward(d, g, u, d_gate=g, d_up=u, y=d),
            "unsloth, with y": fast_backward and (lambda g, u, d: fast_backward(d, g, u)),
        }
        bench.compare("swiglu backward + y", case, make, with_y, moved=6 * T * width * 2)
        in_place = {
            "ours": lambda g, u, d: swiglu_backward(d, g, u, d_gate=g, d_up=u),
            "liger": low and (lambda g, u, d: low(g, u, d)),
        }
        bench.compare("swiglu backward in place", case, make, in_place, moved=5 * T * width * 2)
