"""Before the first step on a GPU: does it fit, and can its passes be captured as CUDA graphs?

The largest micro-batch goes first, so that memory fails now or never.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch.optim.optimizer import Optimizer

from ftlab.planning.schedule import to_text
from ftlab.planning.words import size
from ftlab.train.flat_gradients import FlatGradients
from ftlab.train.memory import drop_gradients, largest_micro_batch, rehearse
from ftlab.train.replan import smaller
from ftlab_kernels import dispatch

if TYPE_CHECKING:
    from ftlab.data.batches import BatchIndex
    from ftlab.models.engine import Decoder
    from ftlab.plan import Plan
    from ftlab.train.objectives import Objective

GRAPHS = "FTLAB_CUDA_GRAPHS"  # "off": every step is launched one by one


def kept_gradients(model: Decoder, optimizer: Optimizer) -> FlatGradients | None:
    """Room for gradients that stay from step to step, where captured graphs may add to them."""
    if model.device.type != "cuda" or not FlatGradients.fits(optimizer):
        return None
    made = FlatGradients(optimizer)
    model.keep_gradients(made.views)
    return made


def settle(
    plan: Plan,
    model: Decoder,
    objective: Objective,
    batches: BatchIndex,
    gradients: FlatGradients | None,
    warn: Callable[[str], None],
    agree: Callable[[str | None], str | None] = lambda fault: fault,
) -> None:
    """Rehearse; plan the memory once more where it does not fit; then capture.

    Args:
        agree: makes one rank's fault everyone's, so that all plan the same memory.
    Raises:
        torch.cuda.OutOfMemoryError: nothing less can be kept, or it did not help.
    """

    def attempt() -> None:
        rehearse(model, objective, batches, gradients)

    fault = agree(_fault(attempt, torch.cuda.OutOfMemoryError))
    if fault is not None:
        _start_over(model, gradients)
        _keep_less(plan, model, batches, fault, warn)
        attempt()
    reason = model.uncapturable()
    if os.environ.get(GRAPHS) == "off":
        reason = f"{GRAPHS} is off"
    if reason is None:
        reason = agree(_capture(model, attempt))
        if reason is not None:
            model.graphs = None
            _start_over(model, gradients)
            warn(f"no CUDA graph could be captured ({reason}); steps take longer")
    dispatch.record("cuda_graphs", "reference" if reason else "kernel", reason or "supported")


def _fault(attempt: Callable[[], None], kind: type[RuntimeError]) -> str | None:
    """Try; an error of that kind in one line. The tensors of the attempt are gone then."""
    try:
        attempt()
    except kind as error:
        return (str(error).splitlines() or ["no reason given"])[0]
    return None


def _start_over(model: Decoder, gradients: FlatGradients | None) -> None:
    """Nothing of a failed attempt is left."""
    drop_gradients(model, gradients)
    if model.device.type == "cuda":
        torch.cuda.empty_cache()


def _capture(model: Decoder, attempt: Callable[[], None]) -> str | None:
    """Capture the largest micro-batch as a CUDA graph; others follow when they occur.

    Returns why that cannot be: then steps are launched one by one, which gives the same bits.
    """
    model.replay()
    return _fault(attempt, RuntimeError)


def _keep_less(
    plan: Plan, model: Decoder, batches: BatchIndex, fault: str, warn: Callable[[str], None]
) -> None:
    step, micro = largest_micro_batch(batches)
    batch = batches.step(step).micro[micro]
    longest = int((batch.cu_seqlens[1:] - batch.cu_seqlens[:-1]).max())
    chosen = smaller(plan, model, len(batch.input_ids), longest)
    if chosen is None:
        raise torch.cuda.OutOfMemoryError(fault)
    model.schedule = chosen.schedule
    warn(
        f"the largest micro-batch ran out of memory ({fault}); the memory schedule is now "
        f"{to_text(chosen.schedule)}, which gives the same bits with a predicted peak of "
        f"{size(chosen.peak)}"
    )
