"""How operators are measured: CUDA events, inputs that caches have forgotten, ceilings, a table.

Every candidate runs on the same tensors in the same process. A time is the median of single calls,
each between two CUDA events, each on the next of several copies of the inputs that together exceed
twice the L2 cache. Candidates alternate, so that a clock that sinks, sinks for all.
"""

from __future__ import annotations

import gc
import importlib
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

Call = Callable[..., Any]  # takes the tensors of one copy
BUDGET = 0.05  # seconds of measured calls a candidate
ROUNDS = (11, 31)  # at least, at most


@dataclass
class Row:
    """One measured candidate."""

    op: str
    case: str
    peer: str
    ms: float
    rate: float  # GB/s or TFLOP/s
    unit: str
    share: float  # of the measured ceiling
    peak_mib: float  # above what was there before
    note: str = ""


class Bench:
    """Collects rows; measures the ceilings once."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.device = torch.device("cuda")
        self.l2 = torch.cuda.get_device_properties(0).L2_cache_size
        self.copy_gbs = self._copy()
        self.matmul_tflops = self._matmul()

    def compare(
        self, op: str, case: str, make: Callable[[int], tuple[Tensor, ...]],
        peers: dict[str, Call | None], *, moved: float = 0.0, flops: float = 0.0,
    ) -> None:  # fmt: skip
        """Measure every peer on the same inputs.

        Args:
            make: from a seed, one copy of the inputs.
            peers: what to call with them, by name; None (not installed) is left out.
            moved: bytes that must move, or
            flops: operations that must be done; the rate and its ceiling follow from these.
        """
        copies = [make(0)]
        size = sum(x.numel() * x.element_size() for x in copies[0] if isinstance(x, Tensor))
        free = torch.cuda.mem_get_info()[0] // 2
        count = max(1, min(-(-2 * self.l2 // max(size, 1)), 16, free // max(size, 1)))
        copies += [make(seed) for seed in range(1, int(count))]
        ready: dict[str, Call] = {}
        notes: dict[str, str] = {}
        for name, call in peers.items():
            if call is None:
                continue
            try:
                for _ in range(3):
                    call(*copies[0])
                torch.cuda.synchronize()
                ready[name] = call
            except Exception as error:
                print(f"{op} {case} {name}: {type(error).__name__}: {error}"[:300], file=sys.stderr)
                torch.cuda.synchronize()
        times = alternate(ready, copies)
        for name, call in ready.items():
            seconds = statistics.median(times[name]) / 1e3
            rate = moved / seconds / 1e9 if moved else flops / seconds / 1e12
            ceiling = self.copy_gbs if moved else self.matmul_tflops
            self.rows.append(
                Row(op, case, name, seconds * 1e3, rate, "GB/s" if moved else "TFLOP/s",
                    rate / ceiling, peak(call, copies[0]), notes.get(name, ""))
            )  # fmt: skip
            print(line(self.rows[-1]), flush=True)
        del copies
        gc.collect()

    def _copy(self) -> float:
        """Bytes read and written a second by torch's own copy of 512 MiB."""
        source = torch.empty(1 << 28, dtype=torch.bfloat16, device=self.device).zero_()
        sink = torch.empty_like(source)
        times = alternate({"copy": lambda: sink.copy_(source)}, [()])["copy"]
        return 2 * source.numel() * 2 / (statistics.median(times) / 1e3) / 1e9

    def _matmul(self) -> float:
        """Operations a second of torch's bf16 matmul of 8192 cubed."""
        n = 8192
        a, b = (torch.randn(n, n, dtype=torch.bfloat16, device=self.device) for _ in range(2))
        times = alternate({"mm": lambda: a @ b}, [()])["mm"]
        return 2 * n**3 / (statistics.median(times) / 1e3) / 1e12


def alternate(calls: dict[str, Call], copies: Sequence[tuple[Any, ...]]) -> dict[str, list[float]]:
    """Milliseconds of single calls, by name; the calls take turns, and so do the inputs."""
    first: dict[str, float] = {}
    for name, call in calls.items():
        call(*copies[-1])
        first[name] = _timed([(call, copies[0])])[0]
    worst = max(first.values(), default=0.0) / 1e3
    rounds = int(min(max(BUDGET / max(worst, 1e-6), ROUNDS[0]), ROUNDS[1]))
    result: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds):
        for index, (name, call) in enumerate(calls.items()):
            result[name] += _timed([(call, copies[(turn + index) % len(copies)])])
    return result


def _timed(calls: Sequence[tuple[Call, tuple[Any, ...]]]) -> list[float]:
    """Each call between two events; a spin of the GPU first hides what launching costs the host."""
    torch.cuda._sleep(4_000_000)
    events = []
    for call, inputs in calls:
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        call(*inputs)
        stop.record()
        events.append((start, stop))
    torch.cuda.synchronize()
    return [start.elapsed_time(stop) for start, stop in events]


def peak(call: Call, inputs: tuple[Any, ...]) -> float:
    """MiB that a call holds at most beyond what was allocated before it."""
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(*inputs)
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def peer(module: str, name: str) -> Any:
    """An attribute of a peer's module, or None where it is not installed or has no such thing."""
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:
        print(f"no peer {module}.{name}: {type(error).__name__}: {error}"[:200], file=sys.stderr)
        return None


def compiled(function: Call) -> Call:
    """torch.compile with its defaults."""
    return torch.compile(function, dynamic=False)


def gradients(outputs: Any, inputs: Sequence[Tensor], sent: Any) -> Any:
    """Backward alone, of a graph that was built before."""
    return torch.autograd.grad(outputs, inputs, sent, retain_graph=True)


HEADER = (
    f"{'op':<24} {'case':<30} {'peer':<16} {'ms':>9} {'rate':>9} {'unit':<8} {'ceiling':>7} "
    f"{'peak MiB':>9}"
)


def line(row: Row) -> str:
    """One row of the table."""
    return (
        f"{row.op:<24} {row.case:<30} {row.peer:<16} {row.ms:9.4f} {row.rate:9.1f} {row.unit:<8} "
        f"{row.share:6.1%} {row.peak_mib:9.1f}  {row.note}"
    ).rstrip()


def as_json(bench: Bench) -> str:
    """All rows and the ceilings."""
    return json.dumps(
        {
            "device": torch.cuda.get_device_name(), "torch": torch.__version__,
            "copy_gbs": bench.copy_gbs, "matmul_tflops": bench.matmul_tflops,
            "rows": [asdict(row) for row in bench.rows],
        }
    )  # fmt: skip
