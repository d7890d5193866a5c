"""Quantise to NF4 and back, and take one 8-bit Adam step. Runs alone; prints JSON."""

from __future__ import annotations

import json


def main() -> dict[str, object]:
    """On the GPU if there is one; NF4 alone on the CPU."""
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        return {"skipped": "bitsandbytes is not installed"}
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    import bitsandbytes as bnb
    from bitsandbytes import functional

    torch.manual_seed(0)
    weight = torch.randn(256, 256, device=device)
    packed, state = functional.quantize_4bit(weight, blocksize=64, quant_type="nf4")
    error = (functional.dequantize_4bit(packed, state) - weight).abs().mean().item()
    if not 0 < error < 0.2:
        return {"wrong": f"NF4 is off by {error:.3g} on average"}
    if device == "cpu":
        return {"said": "NF4 on the CPU; no GPU for the 8-bit optimizer"}
    parameter = torch.nn.Parameter(torch.ones(8192, device=device))
    optimizer = bnb.optim.Adam8bit([parameter], lr=0.1)
    torch.autograd.backward(parameter.sum())
    optimizer.step()
    moved = (1 - parameter).abs().mean().item()
    return (
        {"said": "NF4 and an 8-bit Adam step"}
        if 0.05 < moved < 0.2
        else {"wrong": f"an Adam step of 0.1 moved {moved:.3g}"}
    )


if __name__ == "__main__":
    print(json.dumps(main()))
