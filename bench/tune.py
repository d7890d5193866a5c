"""Make the tables of block sizes: time every candidate of an operator on the GPU that is here.

    python bench/tune.py                 # all; writes nothing, prints the best of each shape class
    python bench/tune.py rms_norm --write

With --write the best candidate of each measured class goes into the operator's table under this
GPU's compute capability. Nothing is timed at run time: the tables in the repository decide.
Exit codes: 0 done, 1 a class for which no candidate ran, 2 a wrong argument, 3 no CUDA device.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ftlab_kernels import tuning

sys.path.insert(0, str(Path(__file__).resolve().parent / "kernels"))
TURNS = 13


@dataclass
class Case:
    """One shape class of one operator."""

    op: str
    shape_class: str
    make: Callable[[], tuple[Tensor, ...]]
    call: Callable[..., Any]
    candidates: list[tuning.Config]


def random(*shape: int) -> Tensor:
    """bf16 on the GPU."""
    return torch.randn(*shape, dtype=torch.bfloat16, device="cuda")


def tiles(columns: int, least: int = 8, most: int = 64, **more: int) -> list[tuning.Config]:
    """Rows and warps such that a thread holds between `least` and `most` values."""
    return [
        {"ROWS": rows, "num_warps": warps, **more}
        for rows in (1, 2, 4, 8, 16, 32, 64)
        for warps in (2, 4, 8, 16, 32)
        if least <= rows * columns / (32 * warps) <= most
    ]


def rms_norm() -> Iterator[Case]:
    """Widths from 64 to 16,384, each direction."""
    from ftlab_kernels.rms_norm import rms_norm_backward, rms_norm_forward

    for lg in range(6, 15):
        H = 1 << lg
        T = min(65536, (1 << 25) // H)
        weight = random(H)

        def make(T: int = T, H: int = H) -> tuple[Tensor, ...]:
            return random(T, H), random(T, H), torch.rand(T, device="cuda")

        def forward(x: Tensor, g: Tensor, r: Tensor, weight: Tensor = weight) -> object:
            return rms_norm_forward(x, weight, eps=1e-5)

        def backward(x: Tensor, g: Tensor, r: Tensor, weight: Tensor = weight) -> object:
            return rms_norm_backward(g, x, weight, r)

        def weight_too(x: Tensor, g: Tensor, r: Tensor, weight: Tensor = weight) -> object:
            return rms_norm_backward(g, x, weight, r, need_weight_grad=True)

        candidates = tiles(H, num_stages=1)
        yield Case("rms_norm", f"forward_{H}", make, forward, candidates)
        yield Case("rms_norm", f"backward_{H}", make, backward, candidates)
        yield Case("rms_norm", f"weight_{H}", make, weight_too, candidates)


def swiglu() -> Iterator[Case]:
    """Forward and backward at Llama-3-8B's width."""
    from ftlab_kernels.swiglu import swiglu_backward, swiglu_forward

    candidates = [
        {"BLOCK": block, **tile}
        for block in (512, 1024, 2048, 4096)
        for tile in tiles(block, most=32)
    ]

    def make() -> tuple[Tensor, ...]:
        return random(4096, 14336), random(4096, 14336), random(4096, 14336)

    yield Case("swiglu", "forward", make, lambda g, u, d: swiglu_forward(g, u), candidates)
    yield Case("swiglu", "backward", make, lambda g, u, d: swiglu_backward(d, g, u), candidates)


OPS = {"rms_norm": rms_norm, "swiglu": swiglu}


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"of: {', '.join(OPS)}; default: all")
    parser.add_argument("--write", action="store_true", help="into the packaged tables")
    args = parser.parse_args(argv)
    unknown = [op for op in args.ops if op not in OPS]
    if unknown:
        parser.error(f"no candidates for {', '.join(unknown)}; there are {', '.join(OPS)}")
    if not torch.cuda.is_available():
        print("tuning needs a CUDA device; there is none", file=sys.stderr)
        return 3
    missed = 0
    for op in args.ops or OPS:
        for case in OPS[op]():
            found = fastest(case)
            if found is None:
                missed += 1
                print(f"{case.op} {case.shape_class}: no candidate ran", file=sys.stderr)
                continue
            milliseconds, best = found
            print(f"{case.op:<12} {case.shape_class:<16} {milliseconds * 1e3:8.1f} us  {best}")
            if args.write:
                write(case, best)
    return 1 if missed else 0


def fastest(case: Case) -> tuple[float, tuning.Config] | None:
    """Least median in ms and its candidate; candidates that do not compile are passed over."""
    copies = [case.make() for _ in range(3)]
    found: list[tuple[float, int]] = []
    for index, candidate in enumerate(case.candidates):
        with tuning.override(case.op, candidate):
            try:
                found.append((measure(case.call, copies), index))
            except Exception as error:
                print(f"{candidate}: {type(error).__name__}", file=sys.stderr)
    if not found:
        return None
    milliseconds, index = min(found)
    return milliseconds, case.candidates[index]


def measure(call: Callable[..., Any], copies: Sequence[tuple[Tensor, ...]]) -> float:
    """Median of TURNS calls in ms, after one that compiles."""
    timed = importlib.import_module("timing")._timed
    call(*copies[0])
    torch.cuda.synchronize()
    return statistics.median(
        timed([(call, copies[turn % len(copies)])])[0] for turn in range(TURNS)
    )


def write(case: Case, best: tuning.Config) -> None:
    """Put the winner into the operator's table."""
    path = tuning.FOLDER / f"{case.op}.json"
    table = json.loads(path.read_text("utf-8"))
    capability = str(tuning.capability(torch.device("cuda", 0)))
    table.setdefault(case.shape_class, {})[capability] = best
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
    path.write_text(f"{{\n{lines}\n}}\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
