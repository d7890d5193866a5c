"""Sum a tensor over two GPUs by NCCL, one process each. Runs alone; prints JSON."""

from __future__ import annotations

import json
import os
import sys
import tempfile


def member(rank: int, store: str) -> None:
    """One of the two processes."""
    import torch
    import torch.distributed as dist

    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method=f"file://{store}", rank=rank, world_size=2)
    x = torch.full((1 << 20,), rank + 1.0, device="cuda")
    dist.all_reduce(x)
    torch.cuda.synchronize()
    assert x.eq(3).all(), "the sum is wrong"
    dist.destroy_process_group()


def main() -> dict[str, object]:
    """Skipped with fewer than two GPUs."""
    import torch

    if torch.cuda.device_count() < 2:
        return {"skipped": f"{torch.cuda.device_count()} GPU"}
    import subprocess

    with tempfile.TemporaryDirectory() as folder:
        code = f"import runpy; runpy.run_path({os.path.abspath(__file__)!r})['member'](int(__import__('sys').argv[1]), {folder + '/store'!r})"
        children = [subprocess.Popen([sys.executable, "-c", code, str(rank)]) for rank in range(2)]
        codes = [child.wait() for child in children]
    return {"said": "a sum over two GPUs"} if codes == [0, 0] else {"wrong": f"exit codes {codes}"}


if __name__ == "__main__":
    print(json.dumps(main()))
