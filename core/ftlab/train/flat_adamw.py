"""8-bit AdamW in one launch for all parameters: they, their gradients and state lie end to end.

bitsandbytes launches once for each parameter, 448 times for an 8B model's LoRA, which costs more
than the update. Its blocks of 256 weights have a scale of their own, so parameters whose sizes are
multiples of 256 can share a launch and keep every bit. The others are updated one by one.
Dettmers et al. 2022, "8-bit Optimizers via Block-wise Quantization".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitsandbytes.functional as functional
import torch
from bitsandbytes.optim import AdamW8bit
from torch import Tensor
from torch.nn import Parameter

from ftlab.planning.buffers import KEPT_GRADIENTS
from ftlab.train.flat_gradients import BLOCK, end_to_end, in_blocks

_STATES = ("state1", "state2", "absmax1", "absmax2")


class FlatAdamW8bit(AdamW8bit):  # type: ignore[misc]
    """bitsandbytes' AdamW8bit with its state, bit for bit; fewer launches."""

    def __init__(self, params: Any, **settings: Any) -> None:
        super().__init__(params, **settings)
        self.check_overrides()
        self.flats = [flat for group in self.param_groups if (flat := _flat(self, group))]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:
        """One update of every parameter that has a gradient."""
        together = {id(p) for flat in self.flats if flat.update() for p in flat.parameters}
        for index, group in enumerate(self.param_groups):
            for number, parameter in enumerate(group["params"]):
                if parameter.grad is None or id(parameter) in together:
                    continue
                if not self.state[parameter]:
                    self.init_state(group, parameter, index, number)
                self.update_step(group, parameter, index, number)


class _Flat:
    """The parameters of one group that share a launch."""

    def __init__(self, owner: FlatAdamW8bit, group: dict[str, Any], chosen: list[Parameter]):
        self.owner, self.group, self.parameters = owner, group, chosen
        self.sizes = [parameter.numel() for parameter in chosen]
        self.weights = torch.empty(sum(self.sizes), device=chosen[0].device)
        for parameter, place in zip(chosen, torch.split(self.weights, self.sizes), strict=True):
            place.copy_(parameter.detach().reshape(-1))
            parameter.data = place.view(parameter.shape)
        self.states: dict[str, Tensor] = {}
        self.views: dict[str, list[Tensor]] = {}
        self._known: tuple[tuple[int, ...], Tensor | None] | None = None

    def update(self) -> bool:
        """Update all of them at once.

        False, and nothing is done, where one has no gradient or has missed a step before.
        """
        grads = [parameter.grad for parameter in self.parameters]
        found = [grad for grad in grads if grad is not None]
        if len(found) < len(grads):
            return False
        states = self._settle()
        step = states[0]["step"] + 1
        if any(state["step"] != step - 1 for state in states):
            return False
        for state in states:
            state["step"] = step
        group, joint, first = self.group, self.states, states[0]
        functional.optimizer_update_8bit_blockwise(
            self.owner.optimizer_name, self._joined(found), self.weights,
            joint["state1"], joint["state2"], *group["betas"], 0.0, 0.0, group["eps"], step,
            group["lr"], first["qmap1"], first["qmap2"], joint["absmax1"], joint["absmax2"],
            group["weight_decay"], gnorm_scale=1.0, skip_zeros=False,
        )  # fmt: skip
        return True

    def _joined(self, grads: list[Tensor]) -> Tensor:
        """The gradients end to end: where they lie, if they lie so."""
        key = tuple(grad.data_ptr() for grad in grads)
        if self._known is None or self._known[0] != key:
            self._known = key, end_to_end(grads)
        there = self._known[1]
        return torch.cat([grad.reshape(-1) for grad in grads]) if there is None else there

    def _settle(self) -> list[dict[str, Any]]:
        """Make every state a view of the joint one, whatever a checkpoint put in its place."""
        if not self.states:
            self._allocate()
        for number, parameter in enumerate(self.parameters):
            state = self.owner.state[parameter]
            if not state:
                self.owner.init_state(self.group, parameter, 0, 0)
            for name in _STATES:
                view = self.views[name][number]
                if state[name] is not view:
                    view.copy_(state[name].view(view.shape))
                    state[name] = view
        return [self.owner.state[parameter] for parameter in self.parameters]

    def _allocate(self) -> None:
        device = self.weights.device
        blocks = [size // BLOCK for size in self.sizes]
        for name in _STATES:
            wide = name.startswith("absmax")
            sizes, dtype = (blocks, torch.float32) if wide else (self.sizes, torch.uint8)
            joint = torch.zeros(sum(sizes), dtype=dtype, device=device)
            self.states[name] = joint
            parts = torch.split(joint, sizes)
            self.views[name] = [
                part if wide else part.view(parameter.shape)
                for part, parameter in zip(parts, self.parameters, strict=True)
            ]


def _flat(owner: FlatAdamW8bit, group: dict[str, Any]) -> _Flat | None:
    chosen = [p for p in group["params"] if in_blocks(p)]
    total = sum(parameter.numel() for parameter in chosen)
    return _Flat(owner, group, chosen) if len(chosen) > 1 and total <= KEPT_GRADIENTS else None
