"""Scratch tensors of one pass over the layers: made once, reused by every layer.

A name stands for one buffer, so two things that live at the same time have two names. A workspace
lives as long as one pass; between the passes its memory belongs to whoever computes the loss.
"""

from __future__ import annotations

import torch
from torch import Tensor


class Workspace:
    """Named scratch matrices [rows, columns] of one dtype and device."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self.device = device
        self.dtype = dtype
        self.content: dict[str, object] = {}  # arena -> what was last written into it
        self.margins: set[object] = set()  # groups whose own operand holds this step's adapters
        self._held: dict[tuple[str, int, int], Tensor] = {}
        self._arenas: dict[str, Tensor] = {}

    def get(self, name: str, rows: int, columns: int) -> Tensor:
        """The matrix of that name and shape; its content is whatever was left there."""
        key = (name, rows, columns)
        found = self._held.get(key)
        if found is None:
            found = torch.empty(rows, columns, device=self.device, dtype=self.dtype)
            self._held[key] = found
        return found

    def new(self, rows: int, columns: int) -> Tensor:
        """A matrix that belongs to the caller and outlives the workspace."""
        return torch.empty(rows, columns, device=self.device, dtype=self.dtype)

    def reserve(self, arena: str, size: int) -> None:
        """Make an arena for matrices of at most `size` elements, one at a time."""
        self._arenas[arena] = torch.empty(size, device=self.device, dtype=self.dtype)

    def arena(self, name: str, rows: int, columns: int, first: int = 0) -> Tensor:
        """A matrix in an arena from element `first` on; others of the arena lie over it."""
        key = (f"{name} {first}", rows, columns)
        found = self._held.get(key)
        if found is None:
            found = self._arenas[name][first : first + rows * columns].view(rows, columns)
            self._held[key] = found
        return found
