"""Training steps side by side on one GPU: this project, Unsloth, transformers + PEFT, with Liger.

    python bench/compare.py --cases nf4 bf16 --sides ftlab unsloth --seconds 600
    python bench/compare.py --cases nf4 --sides ftlab --budget 6.8GiB 8GiB 12GiB
    python bench/compare.py --cases long --length 65536 --cap 24GiB --sides ftlab unsloth
    python bench/compare.py --cases tiny --sides ftlab peft --device cpu

Every side runs in a process of its own (peers patch transformers), over the same weights, adapter
and tokens: each makes them on its device from the same seeds, layer by layer, so that nothing is
written or downloaded. Before a time is reported, each side must have gradients that are not zero,
and a loss that agrees with the first side's. A step is forward, backward and AdamW in 8 bits; the
median of the measured steps counts. Memory is what the allocator held at the peak, and what the
device had given away at the end, CUDA's own share included. A line is
printed as soon as it is known; what the time left does not allow is said and not begun. `--length`
replaces the case's tokens of a row, `--cap` limits what the allocator of every side may take.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
SIDES = ("ftlab", "unsloth", "peft", "liger")
MODES = {"unsloth": ("none", "unsloth"), "peft": ("none", "full"), "liger": ("none", "full")}
LOSS_TOLERANCE = 0.01  # of the first side's loss
WARMUP = 3  # steps before those that are measured
LEAST_SECONDS = 5.0  # a side needs more than this to begin
COLUMNS = {"ms": "ms", "tokens_per_s": "tok/s", "peak_gib": "GiB", "device_gib": "device",
           "pinned_gib": "pinned"}  # fmt: skip
HEADER = f"{'case':<10}{'side':<9}{'mode':<9}{'budget':>8}"
HEADER += "".join(f"{title:>9}" for title in COLUMNS.values()) + "  verdict"


def main() -> int:
    """Measure and print; 1 where a side fails or disagrees."""
    args = arguments()
    if args.child:
        measure(json.loads(args.child))
        return 0
    end = time.monotonic() + args.seconds
    failed = False
    if not args.json:
        print(HEADER, flush=True)
    for name in args.cases:
        first: dict[str, Any] | None = None
        for job in jobs(args, name):
            expected = None if first is None else first["loss"]
            for result in ask(job, end - time.monotonic(), expected):
                if first is None and "loss" in result:
                    first = result
                result["verdict"] = verdict(result, first)
                failed |= result["verdict"] != "ok"
                print(json.dumps(result) if args.json else line(result), flush=True)
    return 1 if failed else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["nf4"])
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--modes", nargs="*", help="only these checkpointing modes of the peers")
    parser.add_argument("--budget", nargs="*", default=[], help="memory budgets of this project")
    parser.add_argument("--length", type=int, help="tokens of a row instead of the case's")
    parser.add_argument("--cap", help="memory that every side may allocate, such as 24GiB")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=3600.0, help="for everything together")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer, for Unsloth")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser.parse_args()


def jobs(args: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    """One for each side and mode; this project's measures all budgets over one model."""
    common = {
        "case": name, **CASES[name], "rank": args.rank, "dropout": args.dropout,
        "steps": args.steps, "device": args.device, "cap": args.cap,
        "tokenizer": str(args.tokenizer) if args.tokenizer else None,
    }  # fmt: skip
    if args.length:
        common["length"] = args.length
    made = []
    for side in args.sides:
        if side == "ftlab":
            made.append({"side": side, "mode": "none", "budgets": [None, *args.budget]})
        else:
            modes = [m for m in MODES[side] if not args.modes or m in args.modes]
            made += [{"side": side, "mode": mode, "budgets": [None]} for mode in modes]
    return [{**common, **job} for job in made]


def ask(job: dict[str, Any], seconds: float, expected: float | None) -> list[dict[str, Any]]:
    """Run one job in a child that may take `seconds`; what it said last of each budget."""
    if seconds < LEAST_SECONDS:
        return [{**job, "budget": b, "error": "no time left"} for b in job["budgets"]]
    given = json.dumps({**job, "expected": expected})
    command = [sys.executable, str(Path(__file__)), "--child", given]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            done = subprocess.run(command, stdout=out, stderr=err, timeout=seconds, check=False)
            fault = f"exit code {done.returncode}" if done.returncode else ""
        except subprocess.TimeoutExpired:
            fault = f"stopped after {seconds:.0f} s"
        texts = [(file.seek(0), file.read())[1] for file in (out, err)]
    lines = [json.loads(row) for row in texts[0].splitlines() if row.startswith("{")]
    said = {row["budget"]: row for row in lines}
    missing = [b for b in job["budgets"] if not {"ms", "error"} & said.get(b, {}).keys()]
    if missing and not any(row["without_grad"] for row in lines):
        print(texts[1][-3000:], file=sys.stderr)
        rows = texts[1].strip().splitlines() or ["no output"]
        last = [row for row in rows if "Error:" in row] or rows
        for b in missing:
            error = {"budget": b, "error": f"{fault or 'no result'}: {last[-1]}"}
            said[b] = {**said.get(b, {}), **error}
    took = round(time.perf_counter() - began, 1)
    return [{**job, **said[b], "took": took} for b in job["budgets"] if b in said]


def verdict(result: dict[str, Any], first: dict[str, Any] | None) -> str:
    """ "ok", or why this result does not count."""
    if "error" in result:
        return f"failed: {result['error']}"
    if result["without_grad"]:
        return f"{result['without_grad']} parameters have no gradient"
    if first is not None and disagrees(result["loss"], first["loss"]):
        return f"loss {result['loss']:.4f}, the first side has {first['loss']:.4f}"
    return "ok"


def disagrees(loss: float, expected: float) -> bool:
    """Whether two sides cannot have computed the same; a NaN agrees with nothing."""
    return not abs(loss / expected - 1) <= LOSS_TOLERANCE


def measure(job: dict[str, Any]) -> None:
    """Print what one side computes, then, where that is right, its times and memory by budget."""
    sys.path.insert(0, str(HERE))
    if job["side"] == "unsloth":
        import unsloth  # noqa: F401  it must come before transformers
    from sides import NOTHING, SIDES, Task

    if job.get("cap") and job["device"] != "cpu":
        limit(_bytes(job["cap"]))
    if job["side"] == "ftlab" and job["device"] != "cpu":  # as it trains
        import torch

        from ftlab.train.numerics import make_deterministic

        make_deterministic(torch.get_num_threads())
    task = Task(
        job["shape"], job["rows"], job["length"], job["rank"], job["dropout"], job["precision"],
        job["mode"], job["device"], job["tokenizer"] and Path(job["tokenizer"]),
        job.get("host") or spare(), _bytes(job["cap"]) if job.get("cap") else None,
    )  # fmt: skip
    side = SIDES[job["side"]](task)
    first = job["budgets"][0]
    if side.within and side.within(_bytes(first) if first else None) == NOTHING:
        raise SystemExit(NOTHING)  # and everything would not fit either
    parameters = list(side.parameters.values())
    optimizer = _optimizer(job["side"], side.parameters, job["device"])
    loss = side.forward()
    loss.backward()  # type: ignore[no-untyped-call]
    norms = [float(p.grad.float().norm()) for p in parameters if p.grad is not None]
    zero = len(parameters) - sum(norm > 0 for norm in norms)
    result = {
        "budget": job["budgets"][0], "loss": float(loss.detach()),
        "grad_norm": sum(n * n for n in norms) ** 0.5, "without_grad": zero,
    }  # fmt: skip
    print(json.dumps(result), flush=True)
    expected = job["expected"]
    if zero or (expected is not None and disagrees(result["loss"], expected)):
        return
    del loss
    optimizer.zero_grad(set_to_none=True)
    clear = functools.partial(optimizer.zero_grad, set_to_none=True)
    if side.settle is not None:
        clear = side.settle(optimizer)

    def step() -> None:
        clear()
        side.forward().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    for budget in job["budgets"]:
        note = side.within(_bytes(budget) if budget else None) if side.within else ""
        if note == NOTHING:
            print(json.dumps({**result, "budget": budget, "error": note}), flush=True)
            continue
        timed = _timed(step, job)
        print(json.dumps({**result, **timed, "budget": budget, "note": note}), flush=True)


def _timed(step: Callable[[], None], job: dict[str, Any]) -> dict[str, float]:
    """Median and least time of a step, and the most memory: the allocator's, and the device's."""
    import torch

    seconds = _times(step, job["steps"], job["device"], job.get("warmup", WARMUP))
    middle, peak, used, pinned = statistics.median(seconds), 0, 0, 0
    if job["device"] != "cpu":
        peak = torch.cuda.max_memory_allocated()
        free, total = torch.cuda.mem_get_info()
        used, pinned = total - free, _pinned()
    return {
        "ms": round(1000 * middle, 2), "ms_low": round(1000 * min(seconds), 2),
        "tokens_per_s": round(job["rows"] * job["length"] / middle),
        "peak_gib": round(peak / 2**30, 3), "device_gib": round(used / 2**30, 3),
        "pinned_gib": round(pinned / 2**30, 3), "host_gib": round(_resident() / 2**30, 3),
    }  # fmt: skip


def spare() -> int:
    """Bytes of host memory that may be pinned: most of what is free."""
    from ftlab.probing.machine import memory

    return int(0.85 * memory()[1])


def limit(count: int) -> None:
    """Let torch allocate so many bytes on the device at most; CUDA's own share comes on top."""
    import torch

    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, count / total))


def _pinned() -> int:
    """Bytes of host memory that torch has pinned, at most; 0 where torch does not count them."""
    import torch

    stats = getattr(torch.cuda, "host_memory_stats", dict)()
    return int(max(stats.get(f"{kind}_bytes.peak", 0) for kind in ("allocated", "reserved")))


def _resident() -> int:
    """The most bytes of host memory that this process has held."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


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


def _times(step: Any, count: int, device: str, warmup: int) -> list[float]:
    """Seconds of each step, after some that warm up."""
    import torch

    wait = torch.cuda.synchronize if device != "cpu" else lambda: None
    if device != "cpu":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()  # a graph holds its peak from its capture on
    for _ in range(warmup):
        step()
    wait()
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


def line(r: dict[str, Any]) -> str:
    """A row of the table."""
    numbers = "".join(f"{r.get(key, '-'):>9}" for key in COLUMNS)
    return (
        f"{r['case']:<10}{r['side']:<9}{r['mode']:<9}{r['budget'] or '-':>8}{numbers}  "
        f"{r['verdict']}  loss {r.get('loss', math.nan):.4f} norm "
        f"{r.get('grad_norm', math.nan):.4f} {r.get('note', '')}".rstrip()
    )


if __name__ == "__main__":
    sys.exit(main())
