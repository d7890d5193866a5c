"""Frozen bitsandbytes weights: 4-bit and 8-bit linear modules as the engine's frozen weights.

Bound by value, not through the module: on some CPUs bitsandbytes repacks a module's weight with
coarser scales when it is used for generation, which must not change training.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ftlab.errors import EnvironmentUnfit
from ftlab_kernels.reference.frozen_linear import FrozenWeight
from ftlab_kernels.reference.int8 import Int8Weight


@dataclass(frozen=True, slots=True)
class FourBitWeight:
    """NF4 or FP4 data with its scales, expanded by bitsandbytes' own operator.

    `ftlab_kernels.reference.nf4` is the formula in PyTorch that the tests compare it to.
    """

    packed: Tensor  # uint8
    state: Any  # bitsandbytes QuantState

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K]; values are those of the dtype it was quantised from."""
        from bitsandbytes.functional import dequantize_4bit

        dense: Tensor = dequantize_4bit(self.packed, self.state)
        return dense.to(dtype)


def frozen_weight(name: str, module: nn.Module) -> FrozenWeight | None:
    """The packed weight of a bitsandbytes linear module; None for an ordinary one.

    Raises EnvironmentUnfit where the module has no quantised data yet.
    """
    kind = type(module).__name__
    if kind == "Linear4bit":
        return _four_bit(name, module)
    return _eight_bit(name, module) if kind == "Linear8bitLt" else None


def _four_bit(name: str, module: Any) -> FourBitWeight:
    state = getattr(module.weight, "quant_state", None) or module.quant_state
    if state is None or module.weight.dtype != torch.uint8:
        raise EnvironmentUnfit(f"{name} is a 4-bit layer without quantised data")
    if getattr(state, "packing_format_for_cpu", False):
        raise EnvironmentUnfit(f"{name} was repacked for generation on the CPU; load it anew")
    return FourBitWeight(module.weight.data, copy.copy(state))


def _eight_bit(name: str, module: Any) -> Int8Weight:
    values = module.state.CB if module.state.CB is not None else module.weight.data
    absmax = module.state.SCB if module.state.SCB is not None else module.weight.SCB
    if values.dtype != torch.int8 or absmax is None:
        raise EnvironmentUnfit(f"{name} is an 8-bit layer without quantised data")
    return Int8Weight(values, absmax)
