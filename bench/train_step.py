"""One LoRA SFT step, side by side: our decoder and transformers with PEFT, same weights and tokens.

    make bench                                  # the starter's model, on the GPU if there is one
    make bench ARGS="--model PATH --tokens 8192 --json"

Measured per side: the median of forward and backward (no optimizer), tokens/s and, on a GPU, the
peak of allocated memory. Steps of both sides alternate, so that a machine that slows down slows
both. Loss and adapter gradients are compared first: a wrong answer has no speed.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ftlab.lora.inject import inject
from ftlab.models.attach import attach
from ftlab.models.load import load_model
from ftlab.schema import AdapterSection

Step = Callable[[], Tensor]


def main() -> int:
    """Measure and print; the exit code is 1 when the two sides disagree."""
    args = arguments()
    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    dtype = {"auto": torch.bfloat16 if device != "cpu" else torch.float32, "bf16": torch.bfloat16,
             "fp32": torch.float32}[args.dtype]  # fmt: skip
    model, sides = build(args, device, dtype)
    apart = difference(model, sides)
    figures = measure(sides, args.steps, args.tokens, device)
    result = {"device": name(device), "torch": torch.__version__, "dtype": str(dtype),
              "tokens": args.tokens, "sequences": args.sequences, "difference": apart,
              **figures}  # fmt: skip
    show(result, args.json)
    return 0 if apart < (1e-3 if dtype is torch.float32 else 5e-2) else 1


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="local folder (default: the starter's model)")
    parser.add_argument("--tokens", type=int, default=512, help="tokens of a step (default: 512)")
    parser.add_argument("--sequences", type=int, default=8, help="of equal length (default: 8)")
    parser.add_argument("--steps", type=int, default=7, help="measured steps (default: 7)")
    parser.add_argument("--dtype", choices=("auto", "bf16", "fp32"), default="auto")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    if args.tokens % args.sequences:
        parser.error("--tokens must be a multiple of --sequences")
    return args


def build(
    args: argparse.Namespace, device: str, dtype: torch.dtype
) -> tuple[nn.Module, dict[str, Step]]:
    """One PEFT model, and a step of each side over it: fp32 masters, computing in `dtype`."""
    if args.model is None:
        from ftlab.starter.model import fetch

        args.model = str(fetch())
    precision = "fp32" if dtype is torch.float32 else "bf16"
    loaded = load_model(args.model, precision=precision, compute_dtype=dtype, device=device)
    model = inject(loaded.model, AdapterSection(r=16, lora_alpha=32), loaded.spec, seed=0)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():  # B starts at zero; gradients of A would be zero too
        if parameter.requires_grad:
            noise = torch.randn(parameter.shape, generator=generator) * 0.02
            parameter.data.copy_(noise.to(parameter))
    decoder = attach(model, compute_dtype=dtype)
    shape = (args.sequences, args.tokens // args.sequences)
    ids = torch.randint(0, loaded.spec.vocab_size, shape, generator=generator).to(device)
    labels = torch.cat([ids[:, 1:], torch.full_like(ids[:, :1], -100)], dim=1).reshape(-1)
    positions = torch.arange(shape[1], device=device).repeat(shape[0])
    bounds = torch.arange(0, args.tokens + 1, shape[1], dtype=torch.int32)

    def ours() -> Tensor:
        hidden = decoder.hidden(ids.reshape(-1), positions, bounds)
        return decoder.token_loss(hidden, labels).sum() / (labels != -100).sum()

    def theirs() -> Tensor:
        with torch.autocast(device.split(":")[0], dtype, enabled=dtype is not torch.float32):
            logits = model(input_ids=ids).logits
        return nn.functional.cross_entropy(logits.float().flatten(0, 1), labels, ignore_index=-100)

    model.train()
    return model, {"transformers": theirs, "ftlab": ours}


def difference(model: nn.Module, sides: dict[str, Step]) -> float:
    """Largest relative difference of an adapter gradient between the two sides."""
    found = []
    for step in sides.values():
        model.zero_grad(set_to_none=True)
        step().backward()  # type: ignore[no-untyped-call]
        found.append({n: p.grad.float().clone() for n, p in model.named_parameters()
                      if p.grad is not None})  # fmt: skip
    theirs, ours = found
    return max(float((ours[n] - g).norm() / g.norm()) for n, g in theirs.items())


def measure(sides: dict[str, Step], steps: int, tokens: int, device: str) -> dict[str, object]:
    """Median seconds, tokens/s and peak bytes of each side; two steps of each are warm-up."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    peaks: dict[str, int] = {}
    for turn in range(steps + 2):
        for side, step in sides.items():
            gc.collect()
            if device != "cpu":
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            start = time.perf_counter()
            step().backward()  # type: ignore[no-untyped-call]
            if device != "cpu":
                torch.cuda.synchronize()
                peaks[side] = torch.cuda.max_memory_allocated()
            if turn > 1:
                seconds[side].append(time.perf_counter() - start)
            print(f"\r{turn + 1}/{steps + 2}", end="", file=sys.stderr, flush=True)
    print("\r\x1b[K", end="", file=sys.stderr)
    return {
        side: {"seconds": statistics.median(values), "spread": [min(values), max(values)],
               "tok_s": tokens / statistics.median(values), "peak_bytes": peaks.get(side)}
        for side, values in seconds.items()
    }  # fmt: skip


def name(device: str) -> str:
    """What the device calls itself."""
    if device == "cpu":
        return f"CPU, {torch.get_num_threads()} threads"
    return torch.cuda.get_device_name(0)


def show(result: dict[str, object], as_json: bool) -> None:
    """Print the figures."""
    if as_json:
        print(json.dumps(result))
        return
    for key, value in result.items():
        if isinstance(value, dict):
            peak = f", peak {value['peak_bytes'] / 2**20:,.0f} MiB" if value["peak_bytes"] else ""
            print(f"{key:<14}{value['seconds']:.3f} s a step, {value['tok_s']:,.0f} tokens/s{peak}")
        else:
            print(f"{key:<14}{value}")


if __name__ == "__main__":
    sys.exit(main())
