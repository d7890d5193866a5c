"""Multiply two matrices in each dtype, on every GPU or the CPU, and compare. Runs alone; prints JSON."""

from __future__ import annotations

import json

LIMITS = {"float32": 1e-2, "float16": 2e-2, "bfloat16": 2e-1}  # against float64; tf32 may be on


def main() -> dict[str, object]:
    """The first dtype that comes out wrong, or the list of those that came out right."""
    import torch

    devices = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cpu"]
    torch.manual_seed(0)
    a, b = torch.randn(128, 64, dtype=torch.float64), torch.randn(64, 96, dtype=torch.float64)
    for device in devices:
        for name, limit in LIMITS.items():
            dtype = getattr(torch, name)
            x, y = a.to(device, dtype), b.to(device, dtype)
            want = x.double().cpu() @ y.double().cpu()
            worst = ((x @ y).double().cpu() - want).abs().max().item()
            if not worst <= limit:
                return {"wrong": f"{name} on {device} is off by {worst:.3g}"}
    return {"said": f"{', '.join(LIMITS)} on {', '.join(devices)}"}


if __name__ == "__main__":
    print(json.dumps(main()))
