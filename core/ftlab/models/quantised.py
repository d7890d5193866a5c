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
from ftlab_kernels import dispatch
from ftlab_kernels.reference.frozen_linear import FrozenWeight
from ftlab_kernels.reference.int8 import Int8Weight
from ftlab_kernels.reference.nf4 import Nf4Weight


@dataclass(frozen=True, slots=True)
class FourBitWeight:
    """NF4 or FP4 data with its scales, expanded by bitsandbytes' own operator.

    `ftlab_kernels.reference.nf4` is the formula in PyTorch that the tests compare it to.
    """

    packed: Tensor  # uint8
    state: Any  # bitsandbytes QuantState
    nf4: Nf4Weight | None = None  # the same data for our kernel, on a GPU

    @property
    def shape(self) -> tuple[int, int]:
        """[N, K]."""
        rows, columns = self.state.shape
        return int(rows), int(columns)

    def dequantise(self, dtype: torch.dtype) -> Tensor:
        """The weight [N, K]; values are those of the dtype it was quantised from."""
        from bitsandbytes.functional import dequantize_4bit

        dense: Tensor = dequantize_4bit(self.packed, self.state)
        return dense.to(dtype)

    def expand_into(self, out: Tensor) -> None:
        """Write the weight into `out` [N, K], whose rows may lie apart; one launch on a GPU."""
        if self.nf4 is not None and out.is_cuda and dispatch.mode() != "off":
            from ftlab_kernels.nf4 import nf4_dequantize  # triton

            nf4_dequantize(self.nf4, out=out)
        else:
            out.copy_(self.dequantise(out.dtype))


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
    packed = module.weight.data
    return FourBitWeight(packed, copy.copy(state), _for_kernel(packed, state))


def _for_kernel(packed: Tensor, state: Any) -> Nf4Weight | None:
    """Double-quantised or plain NF4 of one block size on a GPU, as the kernel reads it."""
    if state.quant_type != "nf4" or not packed.is_cuda:
        return None
    rows, columns = state.shape
    inner, nested = state.state2, {}
    if inner is not None:
        nested = {
            "absmax_code": inner.code,
            "nested_absmax": inner.absmax,
            "nested_blocksize": inner.blocksize,
            "offset": float(state.offset),  # waits for the device, once
        }
    return Nf4Weight(
        packed.reshape(-1), (rows, columns), state.code, state.absmax, state.blocksize, **nested
    )


def _eight_bit(name: str, module: Any) -> Int8Weight:
    values = module.state.CB if module.state.CB is not None else module.weight.data
    absmax = module.state.SCB if module.state.SCB is not None else module.weight.SCB
    if values.dtype != torch.int8 or absmax is None:
        raise EnvironmentUnfit(f"{name} is an 8-bit layer without quantised data")
    return Int8Weight(values, absmax)
