"""The noise floor of a run: how far rounding alone moves its curves, measured, never assumed.

It is calibrated by runs of the same plan whose sums are taken in another order (`variants`). Of the
original and these runs, every pair is compared: the floor at a step is the largest distance between
any two of them up to twice that step, because rounding that entered is carried on, and may enter
one run earlier than another. A curve is inside while its distance to the original is at most
`MARGIN` times the floor, or `UNITS` units in the last place of the stored fp32 value, of which the
floor itself is made.

Sound runs refused, of 400 draws from 14 runs of 60 steps of a small random model whose rows were
permuted inside the steps, with 3 calibrating runs: none at learning rate 1e-3, where rounding stays
in the last places; 19 of 100 at 1e-2, where it grows to 1e-2 of the loss at a pace of its own in
each run (5 calibrating runs: 13). Standard library only.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ftlab import atomic, ledger
from ftlab.errors import ConfigError, FtlabError
from ftlab.ledger import Record
from ftlab.plan import Plan
from ftlab.run import Run

NOISE_VERSION = 1
MARGIN = 3.0
UNITS = 4
CURVES = ("loss", "grad_norm")
_FILE = "noise.json"
_EPSILON = 2.0**-23  # of fp32


@dataclass(frozen=True, slots=True)
class Variant:
    """Another order of the sums of one plan; what is None stays."""

    micro_batch_size: int | None = None
    threads: int | None = None

    def __str__(self) -> str:
        if self.micro_batch_size is not None:
            return f"train.micro_batch_size {self.micro_batch_size}"
        return f"{self.threads} CPU threads"


@dataclass(frozen=True, slots=True)
class Noise:
    """The floor of one run."""

    runs: tuple[str, ...]  # ids of the runs it was measured on, besides the original
    variants: tuple[str, ...]  # how each of them differs
    ledger: str  # digest of the original's ledger: the floor is of that run only
    floor: dict[str, tuple[float, ...]]  # curve -> value per record


@dataclass(frozen=True, slots=True)
class Excess:
    """The first step at which a curve is outside the floor."""

    step: int
    curve: str
    distance: float
    allowed: float

    def __str__(self) -> str:
        return (
            f"step {self.step}: {self.curve} is {self.distance:.3g} away, rounding moves it by "
            f"{self.allowed:.3g} at most"
        )


def variants(plan: Plan) -> Iterator[Variant]:
    """Ways to run a plan again that change nothing but the order of sums, the mildest first.

    Dropout is drawn for each micro-batch, so a run with it keeps its micro-batches.
    """
    config = plan.config
    if not config.adapter.lora_dropout:
        size = int(config.train.micro_batch_size)
        smaller = {size // 2, size // 4, size - 1, 1} - {0, size}
        larger = {2 * size, size + 1} - {size}
        for other in (*sorted(smaller, reverse=True), *sorted(larger)):
            if -(-config.train.batch_size // other) >= plan.world_size and (
                other <= config.train.batch_size
            ):
                yield Variant(micro_batch_size=other)
    if not config.launch.devices:
        threads = plan.facts.machine.threads
        for other in (1, 2, 3, 4):
            if other != threads:
                yield Variant(threads=other)


def measure(original: Run, others: Sequence[tuple[Run, str]]) -> Noise:
    """The floor from runs that are done, each with the words for how it differs.

    Raises:
        ConfigError: fewer than two, one of other data, or none that differs in a bit.
        FtlabError: a ledger is missing or damaged.
    """
    if len(others) < 2:
        raise ConfigError("a noise floor needs two runs or more besides the original")
    books = [ledger.read(run.ledger_path) for run in (original, *(run for run, _ in others))]
    for (run, _), book in zip(others, books[1:], strict=True):
        if not same_stream(books[0], book):
            raise ConfigError(f"run {run.id} saw other batches than {original.id}")
    floor = {curve: tuple(_floor(books, curve)) for curve in CURVES}
    if not any(any(values) for values in floor.values()):
        raise ConfigError(
            f"no other order of sums changed a bit of {original.id}: its floor is zero, and only "
            "BITWISE can be told from NOT REPRODUCED"
        )
    names = tuple(run.id for run, _ in others)
    return Noise(names, tuple(how for _, how in others), ledger.digest(original.ledger_path), floor)


def save(original: Run, noise: Noise) -> None:
    """Keep the floor beside the run that it is of."""
    atomic.write_json(original.path / _FILE, {
        "version": NOISE_VERSION, "runs": noise.runs, "variants": noise.variants,
        "ledger": noise.ledger, "floor": noise.floor,
    })  # fmt: skip


def load(original: Run) -> Noise | None:
    """The floor of a run; None where none was measured, or it is of another ledger."""
    try:
        made = atomic.read_json(original.path / _FILE)
        noise = Noise(
            tuple(made["runs"]), tuple(made["variants"]), str(made["ledger"]),
            {curve: tuple(map(float, made["floor"][curve])) for curve in CURVES},
        )  # fmt: skip
        return noise if noise.ledger == ledger.digest(original.ledger_path) else None
    except (FtlabError, KeyError, TypeError, ValueError):
        return None


def same_stream(a: Sequence[Record], b: Sequence[Record]) -> bool:
    """Whether two ledgers saw the same rows at every step, however they lay in micro-batches."""
    return len(a) == len(b) and all(
        (one.step, one.batch_hash, one.trained_tokens)
        == (two.step, two.batch_hash, two.trained_tokens)
        for one, two in zip(a, b, strict=True)
    )


def outside(noise: Noise, a: Sequence[Record], b: Sequence[Record]) -> Excess | None:
    """Where the curves of `b` first leave the floor around those of `a`; None when they do not."""
    for i, (one, two) in enumerate(zip(a, b, strict=True)):
        if one.lr != two.lr:  # a schedule is no sum
            return Excess(one.step, "lr", abs(one.lr - two.lr), 0.0)
        for curve in CURVES:
            x, y = getattr(one, curve), getattr(two, curve)
            floor = noise.floor[curve]
            rounding = UNITS * _EPSILON * abs(x)
            allowed = max(MARGIN * floor[min(2 * i + 1, len(floor) - 1)], rounding)
            distance = _distance(x, y)
            if not distance <= allowed:
                return Excess(one.step, curve, distance, allowed)
    return None


def _floor(books: Sequence[Sequence[Record]], curve: str) -> Iterator[float]:
    widest = 0.0
    for records in zip(*books, strict=True):
        values = [getattr(record, curve) for record in records]
        widest = max(widest, _widest(values))
        yield widest


def _widest(values: Iterable[float]) -> float:
    """The largest distance of two values; what is not finite widens no floor."""
    pairs = itertools.combinations(values, 2)
    return max((d for d in itertools.starmap(_distance, pairs) if math.isfinite(d)), default=0.0)


def _distance(x: float, y: float) -> float:
    if x == y or (math.isnan(x) and math.isnan(y)):
        return 0.0
    apart = abs(x - y)
    return math.inf if math.isnan(apart) else apart
