"""Device memory while training: how much was used, and what to change when it was too little."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from ftlab.errors import EnvironmentUnfit
from ftlab.models.engine import StepRng
from ftlab.train.batch import to_device

if TYPE_CHECKING:
    from ftlab.data.batches import BatchIndex
    from ftlab.models.engine import Decoder
    from ftlab.plan import Plan
    from ftlab.train.flat_gradients import FlatGradients
    from ftlab.train.objectives import Objective


class OutOfMemory(EnvironmentUnfit):
    """The device has too little memory for a step."""


def peak_bytes(device: torch.device) -> int:
    """Most bytes that were in use at once: on the GPU, or by this process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextlib.contextmanager
def clear_memory_errors(plan: Plan) -> Iterator[None]:
    """Turn running out of memory into one error that says what to change.

    Raises:
        OutOfMemory: in place of CUDA's and the CPU allocator's own errors.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_memory_error(error):
            raise
        raise OutOfMemory(
            f"out of memory on {plan.decided('device')}: {str(error).splitlines()[0]} "
            f"Change one of: {'; '.join(_advice(plan))}"
        ) from error


def rehearse(
    model: Decoder,
    objective: Objective,
    batches: BatchIndex,
    gradients: FlatGradients | None = None,
) -> None:
    """Forward and backward of the largest micro-batch, so that memory fails now or never.

    Only where that is cheap: on a GPU. Gradients are thrown away; nothing else changes.

    Args:
        gradients: those that are kept from step to step, if they are.
    """
    if model.device.type != "cuda":
        return
    step, micro = largest_micro_batch(batches)
    batch = to_device(batches.step(step).micro[micro], model.device)
    model.train_mode()
    loss, _ = objective.loss(model, batch, StepRng(0, step, micro))
    loss.backward()  # type: ignore[no-untyped-call]
    drop_gradients(model, gradients)


def drop_gradients(model: Decoder, gradients: FlatGradients | None) -> None:
    """Forget what a pass has added: to those that are kept, or to each parameter's own."""
    if gradients is not None:
        gradients.clear()
        return
    for parameter in model.trainable().values():
        parameter.grad = None


def largest_micro_batch(batches: BatchIndex) -> tuple[int, int]:
    """Step, and micro-batch within it, that has the most tokens; the first of equals."""
    longest = int(batches.header["max_length"])
    row_tokens = np.minimum(batches.store.lengths(), longest).sum(axis=1)
    sizes = np.add.reduceat(row_tokens[batches.rows], batches.micro_offsets[:-1])
    largest = int(sizes.argmax())
    step = int(np.searchsorted(batches.step_offsets, largest, side="right")) - 1
    return step, largest - int(batches.step_offsets[step])


def _is_memory_error(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(
        sign in text for sign in ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC")
    )


def _advice(plan: Plan) -> Iterator[str]:
    """Changes that need less memory, the harmless ones first."""
    config = plan.config
    if config.memory.checkpointing != "on":
        yield "memory.checkpointing: on"
    size = int(config.train.micro_batch_size)
    if size > 1:
        yield f"train.micro_batch_size: {size // 2} (is {size}; the result stays the same)"
    if config.model.precision not in ("nf4", "int8") and config.adapter.kind == "lora":
        yield f"model.precision: nf4 (is {config.model.precision})"
    if config.optim.name != "adamw_8bit" and plan.decided("device") != "cpu":
        yield "optim.name: adamw_8bit"
    yield f"model.max_length below {config.model.max_length}"
    yield "a smaller model"
