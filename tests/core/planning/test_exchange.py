"""What ranks send each other: nothing when there is one, never twice the gradients."""

from __future__ import annotations

import pytest

from ftlab.planning import exchange

TRAINED = 42_000_000


def test_one_process_exchanges_nothing() -> None:
    assert exchange.workspace_bytes(TRAINED, 1, cuda=True) == 0
    assert exchange.sent_bytes(TRAINED, 1) == 0
    assert exchange.seconds(TRAINED, 1, cuda=True) == (0.0, 0.0)


@pytest.mark.parametrize(("ranks", "share"), [(2, 1.0), (4, 1.5), (8, 1.75)])
def test_each_sends_its_part_of_a_ring(ranks: int, share: float) -> None:
    assert exchange.sent_bytes(TRAINED, ranks) == pytest.approx(share * 4 * TRAINED)
    low, high = exchange.seconds(TRAINED, ranks, cuda=True)
    assert 0 < low < high
    assert high < exchange.seconds(TRAINED, ranks, cuda=False)[1]


def test_the_room_is_bounded_by_the_piece() -> None:
    most = 2 * 4 * exchange.PIECE
    assert exchange.workspace_bytes(8_000_000_000, 2, cuda=False) == most
    assert exchange.workspace_bytes(8_000_000_000, 2, cuda=True) == most + exchange.NCCL_BYTES
    assert exchange.workspace_bytes(1000, 2, cuda=False) < 9000
