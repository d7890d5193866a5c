"""GeGLU, both forms: forward, and backward in one pass."""

from __future__ import annotations

import torch
from timing import Bench, compiled, peer
from torch import Tensor

from ftlab_kernels.geglu import geglu_backward, geglu_forward
from ftlab_kernels.reference.geglu import geglu as reference


def rows(bench: Bench) -> None:
    """Measure."""
    T, width = 8192, 4096
    case = f"[{T}, {width}] bf16"

    def make(seed: int) -> tuple[Tensor, ...]:
        torch.manual_seed(seed)
        return tuple(torch.randn(T, width, dtype=torch.bfloat16, device="cuda") for _ in range(3))

    liger = peer("liger_kernel.ops.geglu", "geglu_forward")
    liger_backward = peer("liger_kernel.ops.geglu", "geglu_backward")
    fast = {
        "none": peer("unsloth.kernels.geglu", "geglu_exact_forward_kernel"),
        "tanh": peer("unsloth.kernels.geglu", "geglu_approx_forward_kernel"),
    }
    quick = compiled(reference)
    for form in ("tanh", "none"):
        unsloth = fast[form]
        forward = {
            "ours": lambda g, u, d: geglu_forward(g, u, approximate=form),
            "liger": liger if liger is None or form == "none" else lambda g, u, d: liger(g, u),
            "unsloth": unsloth and (lambda g, u, d: unsloth(g[None], u[None])),
            "torch eager": lambda g, u, d: reference(g, u, form),
            "torch.compile": lambda g, u, d: quick(g, u, form),
        }
        if form == "none":
            del forward["liger"]
        bench.compare(f"geglu {form} forward", case, make, forward, moved=3 * T * width * 2)
        backward = {
            "ours": lambda g, u, d: geglu_backward(d, g, u, approximate=form, d_gate=g, d_up=u),
            "liger": liger_backward and (lambda g, u, d: liger_backward(g, u, d)),
        }
        if form == "none":
            del backward["liger"]
        bench.compare(f"geglu {form} backward", case, make, backward, moved=5 * T * width * 2)
