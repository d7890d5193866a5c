"""Run RMSNorm of ftlab_kernels forward and backward against plain PyTorch. Runs alone; prints JSON."""

from __future__ import annotations

import json


def main() -> dict[str, object]:
    """The public function, so that what training would choose is what is tried."""
    import importlib
    import importlib.util

    if importlib.util.find_spec("ftlab_kernels") is None:
        return {"skipped": "ftlab_kernels is not installed"}
    import torch

    name = "ftlab_kernels.rms_norm"
    if importlib.util.find_spec(name) is None:
        name = "ftlab_kernels.reference.rms_norm"
    rms_norm = importlib.import_module(name).rms_norm
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    x = torch.randn(63, 512, device=device, requires_grad=True)
    weight = torch.rand(512, device=device) + 0.5
    out = rms_norm(x, weight, 1e-6)
    out = out[0] if isinstance(out, tuple) else out
    torch.autograd.backward(out.square().sum())
    assert x.grad is not None
    y = x.detach().double().requires_grad_()
    want = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + 1e-6) * weight.double()
    torch.autograd.backward(want.square().sum())
    assert y.grad is not None
    worst = max((out - want).abs().max().item(), (x.grad - y.grad).abs().max().item())
    return (
        {"said": f"RMSNorm on {device}"}
        if worst < 1e-3
        else {"wrong": f"RMSNorm is off by {worst:.3g}"}
    )


if __name__ == "__main__":
    print(json.dumps(main()))
