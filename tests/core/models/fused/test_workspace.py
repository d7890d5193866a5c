"""Scratch is made once and shared by name; arenas lie over each other on purpose."""

from __future__ import annotations

import torch

from ftlab.models.fused.workspace import Workspace


def test_a_name_and_shape_is_one_buffer() -> None:
    scratch = Workspace(torch.device("cpu"), torch.float32)
    assert scratch.get("a", 3, 4) is scratch.get("a", 3, 4)
    assert scratch.get("a", 3, 4).data_ptr() != scratch.get("b", 3, 4).data_ptr()
    assert scratch.new(3, 4) is not scratch.new(3, 4)


def test_matrices_of_an_arena_share_its_memory() -> None:
    scratch = Workspace(torch.device("cpu"), torch.float32)
    scratch.reserve("arena", 20)
    first, second = scratch.arena("arena", 2, 6), scratch.arena("arena", 2, 4, first=12)
    assert first.data_ptr() == scratch.arena("arena", 5, 4).data_ptr()
    assert second.data_ptr() == first.data_ptr() + 12 * 4
