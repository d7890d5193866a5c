"""Run xformers' attention forward and backward. Runs alone; prints JSON."""

from __future__ import annotations

import json


def main() -> dict[str, object]:
    """Against torch's own attention."""
    import importlib.util

    if importlib.util.find_spec("xformers") is None:
        return {"skipped": "xformers is not installed"}
    import torch

    if not torch.cuda.is_available():
        return {"skipped": "no GPU, and xformers has no CPU operator"}
    from torch.nn.functional import scaled_dot_product_attention
    from xformers.ops import memory_efficient_attention

    torch.manual_seed(0)
    q, k, v = (
        torch.randn(1, 64, 4, 64, device="cuda", dtype=torch.float16, requires_grad=True)
        for _ in range(3)
    )
    out = memory_efficient_attention(q, k, v)
    torch.autograd.backward(out.float().sum())
    a, b, c = (t.detach().transpose(1, 2) for t in (q, k, v))
    want = scaled_dot_product_attention(a, b, c).transpose(1, 2)
    worst = (out - want).abs().max().item()
    if q.grad is None or not torch.isfinite(q.grad).all():
        return {"wrong": "the gradient is not finite"}
    return {"said": "forward and backward"} if worst < 2e-2 else {"wrong": f"off by {worst:.3g}"}


if __name__ == "__main__":
    print(json.dumps(main()))
