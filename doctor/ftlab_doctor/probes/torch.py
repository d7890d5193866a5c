"""Import torch and say what it sees. Runs alone; prints JSON."""

from __future__ import annotations

import json


def main() -> dict[str, object]:
    """Version, CUDA, devices, and the architectures in the wheel."""
    import torch

    seen = torch.cuda.is_available()
    count = torch.cuda.device_count() if seen else 0
    what = f"torch {torch.__version__}, " + (f"{count} GPU" if seen else "no GPU")
    return {"said": what, "cuda": seen, "devices": count, "arch": torch.cuda.get_arch_list()}


if __name__ == "__main__":
    print(json.dumps(main()))
