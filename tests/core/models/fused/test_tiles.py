"""Rows of tiles, their place among all rows, and their scratch."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from ftlab.models.fused import tiles
from ftlab.models.fused.workspace import Workspace


def run(tokens: int, tile: int) -> Any:
    shared = SimpleNamespace(first=0, scratch=Workspace(torch.device("cpu"), torch.float32))
    return SimpleNamespace(tokens=tokens, tile=tile, shared=shared)


def test_the_last_tile_may_be_short_and_rows_know_their_place() -> None:
    given = run(21, 8)
    seen = [(rows.start, rows.stop, given.shared.first) for rows in tiles.tiles(given)]
    assert seen == [(0, 8, 0), (8, 16, 8), (16, 21, 16)]
    assert given.shared.first == 0


def test_tiles_that_are_given_up_leave_no_offset_behind() -> None:
    given = run(21, 8)
    tiles_of = tiles.tiles(given)
    assert [next(tiles_of).start, next(tiles_of).start] == [0, 8]
    tiles_of.close()
    assert given.shared.first == 0


def test_scratch_of_a_short_tile_is_that_of_the_others() -> None:
    given = run(21, 8)
    first = tiles.piece(given, "x", slice(0, 8), 3)
    last = tiles.piece(given, "x", slice(16, 21), 3)
    assert first.shape == (8, 3)
    assert last.shape == (5, 3)
    assert first.data_ptr() == last.data_ptr()
    assert tiles.piece(run(5, 8), "x", slice(0, 5), 3).shape == (5, 3)
