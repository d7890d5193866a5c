"""Training steps side by side on one GPU: this project, Unsloth, transformers + PEFT, with Liger.

    python bench/compare.py --case nf4 --sides ftlab unsloth
    python bench/compare.py --case nf4 --sides ftlab --budget 6.8GiB 8GiB 12GiB

Every side runs in a process of its own (peers patch transformers), over the same random-weight
checkpoint, adapter and tokens. Before a time is reported, each side must have gradients that are
not zero, and a loss that agrees with the first side's. A step is forward, backward and AdamW in 8
bits; the median of the measured steps counts. Memory is what the allocator held at the peak.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CASES: dict[str, dict[str, Any]] = {
    "nf4": {"shape": "8b", "precision": "nf4", "rows": 2, "length": 2048},
    "bf16": {"shape": "8b", "precision": "bf16", "rows": 2, "length": 2048},
    "long": {"shape": "8b", "precision": "nf4", "rows": 1, "length": 32768},
    "1b": {"shape": "1b", "precision": "nf4", "rows": 2, "length": 2048},
    "1b-short": {"shape": "1b", "precision": "nf4", "rows": 1, "length": 256},
    "smollm2": {"shape": "smollm2", "precision": "bf16", "rows": 2, "length": 2048},
    "tiny": {"shape": "tiny", "precision": "bf16", "rows": 2, "length": 32},
}
MODES = {"unsloth": ("none", "unsloth"), "peft": ("none", "full"), "liger": ("none", "full")}
LOSS_TOLERANCE = 0.01  # of the first side's loss


def main() -> int:
    """Measure and print; 1 where a side fails or disagrees."""
    args = arguments()
    if args.child:
        print(json.dumps(measure(json.loads(args.child))))
        return 0
    case = CASES[args.case]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = args.checkpoint or Path(folder) / "model"
        if not (checkpoint / "config.json").exists():
            write_checkpoint(case, checkpoint, args)
        results = [ask(job) for job in jobs(args, case, checkpoint)]
    failed = show(results, args.json)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=CASES, default="nf4")
    parser.add_argument("--sides", nargs="+", default=["ftlab", "unsloth", "peft", "liger"])
    parser.add_argument("--modes", nargs="*", help="only these checkpointing modes of the peers")
    parser.add_argument("--budget", nargs="*", default=[], help="memory budgets of this project")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--checkpoint", type=Path, help="kept here and used again")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer, which peers want")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def write_checkpoint(case: dict[str, Any], folder: Path, args: argparse.Namespace) -> None:
    """In a process of its own, so that its memory is gone."""
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import random_model; from pathlib import "
        f"Path; random_model.save({case['shape']!r}, {case['precision']!r}, {args.device!r}, "
        f"Path({str(folder)!r}), {f'Path({str(args.tokenizer)!r})' if args.tokenizer else None})"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def jobs(args: argparse.Namespace, case: dict[str, Any], checkpoint: Path) -> list[dict[str, Any]]:
    """One for each side and mode, this project also for each budget."""
    common = {
        "checkpoint": str(checkpoint), "rows": case["rows"], "length": case["length"],
        "precision": case["precision"], "rank": args.rank, "dropout": args.dropout,
        "steps": args.steps, "device": args.device,
    }  # fmt: skip
    made = []
    for side in args.sides:
        if side == "ftlab":
            made += [{"side": side, "mode": "none", "budget": b} for b in (None, *args.budget)]
        else:
            modes = [m for m in MODES[side] if not args.modes or m in args.modes]
            made += [{"side": side, "mode": mode, "budget": None} for mode in modes]
    return [{**common, **job} for job in made]


def ask(job: dict[str, Any]) -> dict[str, Any]:
    """Run one job in a child."""
    command = [sys.executable, str(Path(__file__)), "--child", json.dumps(job)]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    found = json.loads(lines[-1]) if lines and done.returncode == 0 else {}
    if not found:
        found = {"error": done.stderr.strip().splitlines()[-1:] or ["no output"]}
        print(done.stderr[-3000:], file=sys.stderr)
    return {**job, **found, "took": round(time.perf_counter() - began, 1)}


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Loss, gradient norm, times and memory of one side, in this process."""
    sys.path.insert(0, str(HERE))
    if job["side"] == "unsloth":
        import unsloth  # noqa: F401  it must come before transformers
    import torch
    from sides import SIDES, Task

    budget = job["budget"] and _bytes(job["budget"])
    task = Task(
        Path(job["checkpoint"]), job["rows"], job["length"], job["rank"], job["dropout"],
        job["precision"], job["mode"], budget, job["device"],
    )  # fmt: skip
    side = SIDES[job["side"]](task)
    parameters = list(side.parameters.values())
    optimizer = _optimizer(job["side"], side.parameters, job["device"])
    loss = side.forward()
    loss.backward()  # type: ignore[no-untyped-call]
    norms = [float(p.grad.float().norm()) for p in parameters if p.grad is not None]
    zero = len(parameters) - sum(norm > 0 for norm in norms)
    result = {
        "loss": float(loss), "grad_norm": sum(n * n for n in norms) ** 0.5, "without_grad": zero,
        "note": side.note,
    }  # fmt: skip
    del loss

    def step() -> None:
        side.forward().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    seconds = _times(step, job["steps"], job["device"])
    tokens = job["rows"] * job["length"]
    middle = statistics.median(seconds)
    peak = torch.cuda.max_memory_allocated() if job["device"] != "cpu" else 0
    return {
        **result, "ms": round(1000 * middle, 2), "ms_low": round(1000 * min(seconds), 2),
        "tokens_per_s": round(tokens / middle), "peak_gib": round(peak / 2**30, 3),
    }  # fmt: skip


def _optimizer(side: str, named: dict[str, Any], device: str) -> Any:
    """AdamW in 8 bits: each side's own way to run it, the same bits."""
    import torch

    if device == "cpu":
        return torch.optim.AdamW(list(named.values()), lr=1e-5)
    if side == "ftlab":
        from ftlab.train.optimizers import optimizer, set_learning_rate

        made = optimizer("adamw_8bit", named)
        set_learning_rate(made, 1e-5)
        return made
    import bitsandbytes

    return bitsandbytes.optim.AdamW8bit(list(named.values()), lr=1e-5)


def _times(step: Any, count: int, device: str) -> list[float]:
    """Seconds of each step, after three that warm up."""
    import torch

    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    for _ in range(3):
        step()
    wait()
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        step()
        wait()
        seconds.append(time.perf_counter() - began)
    return seconds


def _bytes(text: str) -> int:
    from ftlab.values import parse_bytes

    return parse_bytes(text)


def show(results: list[dict[str, Any]], as_json: bool) -> bool:
    """Print; whether anything failed or disagrees with the first side."""
    failed = False
    first = next((r for r in results if "loss" in r), None)
    for r in results:
        if "error" in r:
            r["verdict"] = f"failed: {r['error']}"
        elif r["without_grad"]:
            r["verdict"] = f"{r['without_grad']} parameters have no gradient"
        elif first is not None and abs(r["loss"] / first["loss"] - 1) > LOSS_TOLERANCE:
            r["verdict"] = f"loss {r['loss']:.4f}, the first side has {first['loss']:.4f}"
        else:
            r["verdict"] = "ok"
        failed |= r["verdict"] != "ok"
        if as_json:
            print(json.dumps(r))
    if not as_json:
        _table(results)
    return failed


def _table(results: list[dict[str, Any]]) -> None:
    print(f"{'side':<10}{'mode':<10}{'budget':>9}{'ms':>9}{'tok/s':>9}{'GiB':>8}  verdict")
    for r in results:
        print(
            f"{r['side']:<10}{r['mode']:<10}{r['budget'] or '-':>9}{r.get('ms', 0):>9}"
            f"{r.get('tokens_per_s', 0):>9}{r.get('peak_gib', 0):>8}  {r['verdict']} "
            f"loss {r.get('loss', 0):.4f} norm {r.get('grad_norm', 0):.4f} {r.get('note', '')}"
        )


if __name__ == "__main__":
    sys.exit(main())
