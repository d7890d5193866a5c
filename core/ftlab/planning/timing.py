"""How long a run takes: floating-point operations over the device's speed, as an honest range.

A forward pass costs 2 operations a weight and token. The backward pass costs as much again for the
gradient of the input, and once more only where the weight itself is trained.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ftlab.estimate import Work, linear_parameters, targets, trained_parameters
from ftlab.facts import Gpu, Machine, Speed
from ftlab.planning import exchange
from ftlab.planning.measured import device_name, matching

# Tensor-core peak of one multiprocessor in TFLOP/s (16-bit, dense), then of its fp32 units.
# Vendors' peak of a typical card divided by its multiprocessors: V100, T4, A100, RTX 3090,
# RTX 4090, H100, B200, RTX 5090.
PEAK_BY_CAPABILITY: dict[tuple[int, int], tuple[float, float]] = {
    (7, 0): (1.56, 0.19),
    (7, 5): (1.62, 0.20),
    (8, 0): (2.89, 0.18),
    (8, 6): (0.87, 0.43),
    (8, 9): (1.29, 0.64),
    (9, 0): (7.49, 0.50),
    (10, 0): (15.2, 0.50),
    (12, 0): (1.23, 0.61),
}
GPU_SHARE = (0.10, 0.60)  # of the peak, worst and best; 0.54 measured (8B, NF4, on an H100)
# Time of a layer for one micro-batch however small, both passes: as a graph (0.6 ms measured), or
# launched one by one by a slow host.
GPU_LAYER_SECONDS = (0.0005, 0.008)
MEASURED_SPREAD = (0.8, 1.1)  # of the speeds of earlier runs, slowest and fastest
CPU_GFLOPS = (12.0, 70.0)  # a thread's fp32 speed inside the engine, worst and best; 62 seen
CPU_BF16_FACTOR = (0.5, 3.0)  # with native bf16 units, against fp32
CPU_LAYER_SECONDS = (0.0003, 0.003)


@dataclass(frozen=True, slots=True)
class Amount:
    """What a whole run computes."""

    tokens: int  # through the decoder, all steps
    trained_tokens: int  # through the head
    mean_length: float  # tokens of a sequence
    micro_batches: int
    reference_passes: int = 0  # forward passes of the frozen model over everything (DPO: 1)
    evaluated_tokens: int = 0  # through the decoder in all evaluations, forward only
    evaluated_trained_tokens: int = 0
    generated_tokens: int = 0  # of samples, one after the other
    ranks: int = 1  # processes that share the steps; evaluation is for the first alone
    steps: int = 0


def operations(work: Work, amount: Amount) -> float:
    """Floating-point operations of the run."""
    spec = work.spec
    linear = linear_parameters(spec)
    attention = 2.0 * amount.mean_length * spec.num_heads * spec.head_dim * spec.num_layers
    head = 2.0 * spec.vocab_size * spec.hidden_size
    forward = 2.0 * linear + attention
    backward = 2.0 * linear + 2.5 * attention + (2.0 * linear if work.full else 0.0)
    small = sum(n * work.adapter.r * (o + i) for o, i, n in targets(spec, work.adapter).values())
    again = forward if work.checkpointing else 0.0
    body = forward + backward + again + 6.0 * small + amount.reference_passes * forward
    heads = head * ((4.0 if work.full else 2.0) + amount.reference_passes)
    passes = 1 + amount.reference_passes
    evaluation = passes * (
        amount.evaluated_tokens * forward + amount.evaluated_trained_tokens * head
    )
    generation = amount.generated_tokens * (forward + head)
    training = amount.tokens * body + amount.trained_tokens * heads
    return training + evaluation + generation


def seconds(work: Work, amount: Amount, machine: Machine, gpu: int | None) -> tuple[float, float]:
    """Shortest and longest time of training and evaluation, in seconds.

    From what earlier runs reached on the device, where there are any, else from the vendor's peak.
    """
    total = _of_one(work, amount)
    exchange_low, exchange_high = (
        amount.steps * once
        for once in exchange.seconds(
            trained_parameters(work.spec, work.adapter), amount.ranks, cuda=gpu is not None
        )
    )
    low, high = _computing(work, amount, machine, gpu, total)
    return low + exchange_low, high + exchange_high


def _of_one(work: Work, amount: Amount) -> float:
    """Operations of the process that does most: its share of the steps, and all evaluations."""
    everything = operations(work, amount)
    if amount.ranks == 1:
        return everything
    training = operations(
        work,
        replace(amount, evaluated_tokens=0, evaluated_trained_tokens=0, generated_tokens=0),
    )
    return everything - training + training / amount.ranks


def _computing(
    work: Work, amount: Amount, machine: Machine, gpu: int | None, total: float
) -> tuple[float, float]:
    rates = [speed.rate for speed in known(work, machine, gpu)]
    if rates:
        return total / (max(rates) * MEASURED_SPREAD[1]), total / (min(rates) * MEASURED_SPREAD[0])
    slow, fast = _speeds(work, machine, gpu)
    quick, long = GPU_LAYER_SECONDS if gpu is not None else CPU_LAYER_SECONDS
    evaluations = amount.evaluated_tokens // max(1, work.tokens)
    passes = (
        -(-amount.micro_batches // amount.ranks) + evaluations // 3 + amount.generated_tokens // 3
    )
    host = passes * work.spec.num_layers
    return max(total / fast, host * quick), total / slow + host * long


def known(work: Work, machine: Machine, gpu: int | None) -> list[Speed]:
    """Speeds of earlier runs that tell something about this one."""
    device = device_name(machine, "cpu" if gpu is None else f"cuda:{gpu}")
    parameters = work.spec.parameters()
    return matching(machine.speeds, device, work.precision, work.compute_dtype, parameters)


def _speeds(work: Work, machine: Machine, gpu: int | None) -> tuple[float, float]:
    """Operations per second, worst and best."""
    if gpu is None:
        factors = CPU_BF16_FACTOR if work.compute_dtype != "fp32" else (1.0, 1.0)
        threads = max(1, machine.threads // work.ranks)
        low, high = (g * f for g, f in zip(CPU_GFLOPS, factors, strict=True))
        return low * threads * 1e9, high * threads * 1e9
    card = next(item for item in machine.gpus if item.index == gpu)
    total = peak(card, work.compute_dtype)
    return total * GPU_SHARE[0], total * GPU_SHARE[1]


def peak(card: Gpu, compute_dtype: str) -> float:
    """Operations per second that the vendor states for this card: dense, tensor cores at 16 bit."""
    known = [c for c in PEAK_BY_CAPABILITY if c <= card.capability]
    each = PEAK_BY_CAPABILITY[max(known, default=(7, 0))][compute_dtype == "fp32"]
    return each * (card.multiprocessors or 40) * 1e12
