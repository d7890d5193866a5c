"""The longest sequence that a training step takes within so much memory, for every side in turn.

    python bench/longest.py --cap 16GiB --sides ftlab unsloth --seconds 540
    python bench/longest.py --cap 78GiB --host 100GiB --sides ftlab --from 262144 --seconds 540

One sequence of random tokens, the shape, adapter and optimizer of `compare.py`. The cap is what
torch may allocate on the device, the same for every side; CUDA's own share comes on top. The length
is doubled until it does not fit and then halved in between, on the grid to which micro-batches are
padded (16 lengths between two powers of two). Each attempt is a child of its own: one that runs out
of memory is an answer, "no". So is one that takes longer than `--each` seconds, and says so. A line
is printed for each attempt, and at the end one for each side with the longest that went well: time
of the step, tokens/s, the peak on the device, and host memory that was pinned and held. This
project begins with the longest that its plan allows; what the plan refuses is not tried.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import compare  # noqa: E402  a sibling; bench/ is no package

SHARE = 0.97  # of the cap that this project's plan may use; blocks are rounded up
MODES = {"ftlab": ("none",), "unsloth": ("unsloth",), "peft": ("full",), "liger": ("full",)}
NO_MEMORY = (
    "out of memory", "outofmemory", "nothing fits", "exit code -9", "alloc_failed",
    "memoryallocation",
)  # fmt: skip
LEAST = 64
COLUMNS = {
    "length": "tokens", "ms": "ms", "tokens_per_s": "tok/s", "peak_gib": "GiB",
    "device_gib": "device", "pinned_gib": "pinned", "host_gib": "host",
}  # fmt: skip
HEADER = f"{'side':<9}{'mode':<9}" + "".join(f"{title:>9}" for title in COLUMNS.values())
Attempt = Callable[[int], dict[str, Any]]


def main() -> int:
    """Search and print; 1 where a side has no length at all."""
    args = arguments()
    if not args.plain:  # for every side alike; Unsloth asks for it by itself
        os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")
    end = time.monotonic() + args.seconds
    pairs = [(side, mode) for side in args.sides for mode in (args.modes or MODES[side])]
    best: list[tuple[str, str, dict[str, Any] | None]] = []
    say(args, HEADER)
    for number, (side, mode) in enumerate(pairs):
        now = time.monotonic()
        share = now + (end - now) / (len(pairs) - number)  # what one leaves over, others get

        def attempt(length: int, side: str = side, mode: str = mode, until: float = share) -> Any:
            found = try_length(args, side, mode, length, until - time.monotonic())
            say(args, json.dumps(found) if args.json else line(found))
            return found

        start = planned(args) if side == "ftlab" else args.start
        best.append((side, mode, longest(attempt, start, args.most, share)))
    say(args, "")
    for side, mode, found in best:
        none = {"side": side, "mode": mode, "length": 0, "verdict": "none fits"}
        say(args, json.dumps({"longest": found or none}) if args.json else line(found or none))
    return 1 if any(found is None for _, _, found in best) else 0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", default="8b", help="of random_model")
    parser.add_argument("--precision", default="nf4", choices=("nf4", "bf16"))
    parser.add_argument("--sides", nargs="+", choices=compare.SIDES, default=["ftlab", "unsloth"])
    parser.add_argument("--modes", nargs="*", help="other modes than those that need least memory")
    parser.add_argument("--cap", required=True, help="memory that torch may allocate: 16GiB")
    parser.add_argument("--host", help="host memory that may be pinned (default: what can be)")
    parser.add_argument("--from", dest="start", type=int, default=16384, help="first length")
    parser.add_argument("--most", type=int, default=1 << 21, help="no longer than this")
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=1, help="measured steps of each attempt")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for everything together")
    parser.add_argument("--each", type=float, default=600.0, help="for one attempt")
    parser.add_argument("--plain", action="store_true", help="no expandable segments")
    parser.add_argument("--tokenizer", type=Path, help="folder of a tokenizer, for Unsloth")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    return parser.parse_args()


def say(args: argparse.Namespace, text: str) -> None:
    """A line at once; no headings among JSON lines."""
    if not args.json or text.startswith("{"):
        print(text, flush=True)


def grid(length: int) -> int:
    """The longest length up to this one that needs no padding."""
    step = max(LEAST, (1 << max(0, length - 1).bit_length()) // 16)
    return length // step * step


def longest(attempt: Attempt, start: int, most: int, until: float) -> dict[str, Any] | None:
    """The result of the longest length that fits, or None.

    Args:
        attempt: tries a length; its verdict is "ok" where that went well.
        until: no attempt begins after that time.
    """
    best: dict[str, Any] | None = None
    low, high, length = 0, most + 1, grid(min(start, most))
    while length and low < length < high and time.monotonic() < until:
        found = attempt(length)
        if found["verdict"] == "ok":
            low, best = length, found
        elif found["verdict"].startswith("no time"):
            return best
        else:
            high = length
        if high > most:
            length = grid(min(2 * low, most))
        else:
            length = grid((low + high) // 2) if low else grid(high // 2)
    return best


def try_length(
    args: argparse.Namespace, side: str, mode: str, length: int, seconds: float
) -> dict[str, Any]:
    """One step of one side at one length, in a child."""
    job = {
        "case": "longest", "side": side, "mode": mode, "shape": args.shape, "rows": 1,
        "length": length, "precision": args.precision, "rank": args.rank, "dropout": 0.0,
        "steps": args.steps, "warmup": 0, "device": args.device, "cap": args.cap,
        "tokenizer": str(args.tokenizer) if args.tokenizer else None,
        "budgets": [f"{budget(args) >> 20}MiB" if side == "ftlab" else None],
        "host": host(args.host),
    }  # fmt: skip
    if side == "ftlab" and not fits(args, length):
        return {**job, "verdict": "no: memory, says the plan"}
    limit = min(seconds, args.each)
    (found,) = compare.ask(job, limit, None) or [{**job, "error": "no gradients"}]
    return {**found, "verdict": verdict(found, limit < args.each)}


def budget(args: argparse.Namespace) -> int:
    """Bytes that this project's plan may use."""
    return int(SHARE * compare._bytes(args.cap))


def planned(args: argparse.Namespace) -> int:
    """The longest length that this project's plan allows; the first one where that is none."""
    low, high = 0, args.most + 1
    while grid((low + high) // 2) > low:
        middle = grid((low + high) // 2)
        low, high = (middle, high) if fits(args, middle) else (low, middle)
    return low or args.start


def fits(args: argparse.Namespace, length: int) -> bool:
    """Whether this project's plan allows a length."""
    from random_model import SHAPES

    from ftlab.estimate import Work
    from ftlab.models.families import spec_from_config
    from ftlab.planning.memory import least
    from ftlab.schema import AdapterSection

    config = {"architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-5, **SHAPES[args.shape]}
    adapter = AdapterSection(r=args.rank, lora_alpha=args.rank)
    work = Work(
        spec=spec_from_config(config), adapter=adapter, precision=args.precision,
        compute_dtype="bf16", optimizer="adamw_8bit", tokens=length, longest=length,
        checkpointing=True, cuda=True, host=host(args.host),
    )  # fmt: skip
    return least(work).peak <= budget(args)


def host(asked: str | None) -> int:
    """Bytes of host memory that may be pinned: as asked, or most of what is free."""
    return compare._bytes(asked) if asked else compare.spare()


def verdict(found: dict[str, Any], short: bool) -> str:
    """ "ok", "no" and why, or what else went wrong.

    Args:
        short: the attempt had less time than one may have.
    """
    error = str(found.get("error", ""))
    if not error:
        lacks = found.get("without_grad")
        return f"{lacks} parameters have no gradient" if lacks else "ok"
    if any(word in error.lower() for word in NO_MEMORY):
        return "no: memory"
    if "stopped after" in error or error == "no time left":
        return f"no time: {error}" if short else f"no: {error}"
    return f"failed: {error}"


def line(found: dict[str, Any]) -> str:
    """A row of the table."""
    numbers = "".join(f"{found.get(key, '-'):>9}" for key in COLUMNS)
    return f"{found['side']:<9}{found['mode']:<9}{numbers}  {found['verdict']} " + str(
        found.get("note", "")
    )


if __name__ == "__main__":
    sys.exit(main())
