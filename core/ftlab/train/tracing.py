"""Hashes of every tensor that one step makes: which layer and operator two runs part at.

A hook that is silent until the step before, listens to the layers and to the gradients during the
step, writes `traces/step-N.jsonl` and ends the run. Each tensor is copied to the host and hashed,
so the step is slow; no value is changed, so its bits are those of the run.
"""

from __future__ import annotations

import functools
import hashlib

import torch
from torch import Tensor

from ftlab.errors import Interrupted
from ftlab.models.engine import Decoder
from ftlab.reproduce import trace
from ftlab.reproduce.trace import Entry, Trace
from ftlab.run import Run
from ftlab.train.loop import StepResult
from ftlab.train.state import raw_bytes

_BYTES = 16  # of a hash


class Tracer:
    """Traces one step.

    Args:
        step: as it is counted in the ledger, from 1.
    """

    def __init__(self, run: Run, model: Decoder, step: int) -> None:
        self.run, self.model, self.step = run, model, step
        self.entries: list[Entry] = []
        self.micro = 0
        self._last = ""
        self._hooks: list[torch.utils.hooks.RemovableHandle] = []

    def begin(self, step: int) -> None:
        """Listen at once where the first step is meant."""
        if step == self.step - 1:
            self._listen()

    def after_step(self, result: StepResult) -> None:
        """Begin after the step before; write and end after the step itself."""
        if result.step == self.step - 1:
            self._listen()
        elif result.step == self.step:
            self._write()
            raise Interrupted(f"step {self.step} is traced; the run ends here, as was asked")

    def seen(self, where: str, layer: int, place: str, value: Tensor) -> None:
        """Take a tensor down, but not of an evaluation between two steps."""
        if not self.model.training:
            return
        if self._last in ("", "gradient", "backward") and where in ("forward", "reference"):
            self.micro += 1
        self._last = where
        held = value.detach()
        norm = torch.linalg.vector_norm(held.double())
        digest = hashlib.blake2b(raw_bytes(held), digest_size=_BYTES).hexdigest()
        dtype = str(held.dtype).removeprefix("torch.")
        self.entries.append(
            Entry(where, self.micro, layer, place, tuple(held.shape), dtype, float(norm), digest)
        )

    def _listen(self) -> None:
        self.model.tap = self.seen
        self.model.keep_gradients({})  # each goes through autograd, whose hooks see it
        for name, parameter in self.model.trainable().items():
            told = functools.partial(self._gradient, name)
            hook = parameter.register_post_accumulate_grad_hook(told)  # type: ignore[no-untyped-call]
            self._hooks.append(hook)

    def _gradient(self, name: str, parameter: Tensor) -> None:
        if parameter.grad is not None:
            self.seen("gradient", -1, name, parameter.grad)

    def _write(self) -> None:
        self.model.tap = None
        for hook in self._hooks:
            hook.remove()
        self.micro = 0
        for name, parameter in self.model.trainable().items():
            self.seen("update", -1, name, parameter)
        trace.write(self.run, Trace(self.step, tuple(self.entries)))
