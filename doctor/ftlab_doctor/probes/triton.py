"""Compile and run one Triton kernel forward and one backward. Runs alone; prints JSON."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path


def main() -> dict[str, object]:
    """x * sigmoid(x) and its derivative against torch's."""
    import torch

    if not torch.cuda.is_available():
        return {"skipped": "no GPU"}
    sys.path.append(str(Path(__file__).parent / "device"))
    silu = importlib.import_module("silu")

    x = torch.linspace(-4, 4, 1000, device="cuda")
    y, slope = torch.full_like(x, float("nan")), torch.full_like(x, float("nan"))
    silu.silu_forward[(8,)](x, y, 1000, B=128)
    silu.silu_backward[(8,)](x, slope, 1000, B=128)
    leaf = x.clone().requires_grad_()
    want = torch.nn.functional.silu(leaf)
    torch.autograd.backward(want.sum())
    assert leaf.grad is not None
    worst = max((y - want).abs().max().item(), (slope - leaf.grad).abs().max().item())
    return {"said": "forward and backward"} if worst < 1e-4 else {"wrong": f"off by {worst:.3g}"}


if __name__ == "__main__":
    print(json.dumps(main()))
