"""Activation checkpointing: keep a layer's input, compute what backward needs of it once more.

Tensors that autograd would save are dropped in the forward pass and only numbered. The first one
that backward asks for runs the layer again up to the last of them, so that nothing behind it (the
down projection) is computed twice. The layer must be a function of its arguments: dropout is
counter-based, so the bits are the same and there is no RNG state to restore.

torch.utils.checkpoint does the same, but in torch 2.4 warns about itself in every backward pass
and enters autocast, which nothing here uses.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


def recomputed(function: Callable[..., Tensor], x: Tensor, *arguments: Any) -> Tensor:
    """`function(x, *arguments)`, keeping only `x` and the arguments for the backward pass.

    Args:
        x: the one input that carries gradient, besides parameters that `function` holds.
        arguments: anything else; tensors among them get no gradient.
    """
    frame = _Frame(function, x, arguments)
    with saved_tensors_hooks(frame.number, frame.tensor):
        return function(x, *arguments)


class _Enough(Exception):
    """Every tensor that backward needs has been computed."""


class _Frame:
    """What one layer would have saved, by number, and how to get it back."""

    def __init__(
        self, function: Callable[..., Tensor], x: Tensor, arguments: tuple[Any, ...]
    ) -> None:
        self.function = function
        self.x = x
        self.arguments = arguments
        self.count = 0
        self.saved: dict[int, Tensor] = {}

    def number(self, _: Tensor) -> int:
        """Forward: drop the tensor, remember its place."""
        self.count += 1
        return self.count - 1

    def tensor(self, number: int) -> Tensor:
        """Backward: give the tensor of that place, once; asked again, compute again."""
        if number not in self.saved:
            self._again()
        return self.saved.pop(number)

    def _again(self) -> None:
        self.saved.clear()
        # A leaf of its own, so that this graph ends here.
        x = self.x.detach().requires_grad_(self.x.requires_grad)
        recording = saved_tensors_hooks(self._keep, _never)
        with torch.set_grad_enabled(True), recording, contextlib.suppress(_Enough):
            self.function(x, *self.arguments)

    def _keep(self, tensor: Tensor) -> None:
        self.saved[len(self.saved)] = tensor.detach()
        if len(self.saved) == self.count:
            raise _Enough


def _never(_: None) -> Tensor:
    raise AssertionError("the second computation has no backward pass of its own")
