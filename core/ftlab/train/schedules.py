"""Learning-rate schedules: pure functions of the step, so a resumed run needs no state for them.

Warm-up rises linearly and reaches the peak with its last step; the first step is never wasted at
rate zero, so warm-up is one step ahead of transformers' schedulers. After it, linear and cosine
equal `transformers.get_scheduler` and would reach zero one step after the last.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int], float]


def schedule(kind: str, *, peak: float, steps: int, warmup: float) -> Schedule:
    """The learning rate as a function of the step index (0 is the first step).

    Args:
        kind: "linear", "cosine" or "constant".
        peak: learning rate after warm-up.
        steps: optimizer steps of the whole run.
        warmup: below 1 a share of `steps` (rounded up), from 1 a number of steps.
    Raises:
        ValueError: unknown kind.
    """
    if kind not in _SHAPES:
        raise ValueError(f"unknown schedule {kind!r}; allowed: {', '.join(_SHAPES)}")
    shape, rising = _SHAPES[kind], warmup_steps(steps, warmup)

    def rate(step: int) -> float:
        if step < rising:
            return peak * (step + 1) / rising
        return peak * shape((step - rising) / max(1, steps - rising))

    return rate


def warmup_steps(steps: int, warmup: float) -> int:
    """Number of warm-up steps: a share of all steps rounded up, or the number itself."""
    wanted = math.ceil(steps * warmup) if warmup < 1 else int(warmup)
    return min(wanted, steps)


def _linear(progress: float) -> float:
    return max(0.0, 1.0 - progress)


def _cosine(progress: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * min(1.0, progress)))


def _constant(progress: float) -> float:
    return 1.0


_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "constant": _constant,
}
