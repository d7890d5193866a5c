"""The gradients of all trained parameters end to end, made once: one launch clears or scales them.

Captured graphs add to them where they lie, and the optimizer's joint update reads them in place.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.optimizer import Optimizer

from ftlab.planning.buffers import KEPT_GRADIENTS

BLOCK = 256  # weights that share a scale in an 8-bit optimizer's state
LEAST = 4096  # smaller tensors keep 32-bit state there
_ALIGN = 64  # elements: every gradient begins at a multiple of 128 bytes or more


class FlatGradients:
    """One buffer for each parameter group and dtype; `grad` of every parameter is a view of it."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.buffers: list[Tensor] = []
        self.views: dict[int, Tensor] = {}
        for group in optimizer.param_groups:
            for parameters in _by_dtype(group["params"]):
                self._join(parameters)

    @staticmethod
    def fits(optimizer: Optimizer) -> bool:
        """Whether the gradients are few enough to keep them all the time."""
        sizes = [int(p.numel()) for group in optimizer.param_groups for p in group["params"]]
        return sum(sizes) <= KEPT_GRADIENTS

    def clear(self) -> None:
        """Set every gradient to zero."""
        for buffer in self.buffers:
            buffer.zero_()

    def _join(self, parameters: list[Parameter]) -> None:
        # Those of a joint update first, so that their gradients lie end to end.
        ordered = sorted(parameters, key=lambda parameter: not in_blocks(parameter))
        sizes = [-(-parameter.numel() // _ALIGN) * _ALIGN for parameter in ordered]
        first = ordered[0]
        buffer = torch.zeros(sum(sizes), dtype=first.dtype, device=first.device)
        self.buffers.append(buffer)
        for parameter, part in zip(ordered, torch.split(buffer, sizes), strict=True):
            view = part[: parameter.numel()].view(parameter.shape)
            parameter.grad = self.views[id(parameter)] = view


def in_blocks(parameter: Tensor) -> bool:
    """Whether an 8-bit optimizer may update it in one launch with others."""
    size = parameter.numel()
    return parameter.dtype == torch.float32 and size >= LEAST and size % BLOCK == 0


def end_to_end(tensors: list[Tensor]) -> Tensor | None:
    """The 1-d tensor of which these are neighbouring parts in this order, or None."""
    first = tensors[0]
    storage = first.untyped_storage().data_ptr()
    for before, after in pairwise(tensors):
        if after.storage_offset() != before.storage_offset() + before.numel():
            return None
    if any(t.untyped_storage().data_ptr() != storage or not t.is_contiguous() for t in tensors):
        return None
    total = sum(tensor.numel() for tensor in tensors)
    return first.as_strided((total,), (1,), first.storage_offset())


def _by_dtype(parameters: list[Parameter]) -> Iterator[list[Parameter]]:
    for dtype in dict.fromkeys(parameter.dtype for parameter in parameters):
        yield [parameter for parameter in parameters if parameter.dtype == dtype]
