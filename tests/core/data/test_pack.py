"""Packing: every row once, nothing too full, the same on every machine."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ftlab.data.pack import first_fit_decreasing, lay_out, spread


def plain_first_fit_decreasing(lengths: list[int], capacity: int) -> list[int]:
    """The textbook, one row at a time."""
    bins = [-1] * len(lengths)
    room: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        with_room = [number for number, left in enumerate(room) if left >= lengths[row]]
        if not with_room:
            room.append(capacity)
        bins[row] = with_room[0] if with_room else len(room) - 1
        room[bins[row]] -= lengths[row]
    return bins


def test_many_steps_at_once_equal_the_textbook() -> None:
    generator = np.random.default_rng(0)
    for capacity in (100, 137, 1000):
        lengths = generator.integers(1, 101, size=(40, 13))
        found = first_fit_decreasing(lengths, capacity)
        assert found.tolist() == [
            plain_first_fit_decreasing(row.tolist(), capacity) for row in lengths
        ]


def test_absent_rows_get_no_bin_and_too_long_rows_are_refused() -> None:
    assert first_fit_decreasing(np.array([[5, -1], [5, 6]]), 10).tolist() == [[0, -1], [1, 0]]
    with pytest.raises(ValueError, match="11 tokens does not fit into 10"):
        first_fit_decreasing(np.array([[11]]), 10)


def test_layout_keeps_each_row_in_its_step() -> None:
    lengths = np.array([6, 5, 4, 3, 9, 2, 2, 8])
    order, micro_sizes, micro_counts = lay_out(
        lengths, np.array([4, 3, 1]), capacity=10, micro_batch_size=99
    )
    assert micro_counts.tolist() == [2, 2, 1]
    assert [sorted(part.tolist()) for part in np.split(order, [4, 7])] == [
        [0, 1, 2, 3],
        [4, 5, 6],
        [7],
    ]
    packs = np.split(order, np.cumsum(micro_sizes)[:-1])
    assert [sorted(pack.tolist()) for pack in packs] == [[0, 2], [1, 3], [4], [5, 6], [7]]
    assert all(lengths[pack].sum() <= 10 for pack in packs)


def test_layout_without_packing_counts_rows() -> None:
    order, micro_sizes, micro_counts = lay_out(
        np.array([9, 1, 1, 1, 9]), np.array([3, 2]), capacity=None, micro_batch_size=2
    )
    assert order.tolist() == [0, 1, 2, 3, 4]
    assert micro_sizes.tolist() == [2, 1, 2]
    assert micro_counts.tolist() == [2, 1]


def test_blocks_of_steps_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    lengths, sizes = generator.integers(1, 50, 999), np.full(111, 9)
    whole = lay_out(lengths, sizes, capacity=60, micro_batch_size=1)
    monkeypatch.setattr("ftlab.data.pack._CELLS", 20)
    parts = lay_out(lengths, sizes, capacity=60, micro_batch_size=1)
    assert all(np.array_equal(a, b) for a, b in zip(whole, parts, strict=True))


@pytest.mark.quiet
def test_a_million_rows_pack_far_faster_than_one_at_a_time(slowness: float) -> None:
    generator = np.random.default_rng(2)
    lengths = generator.integers(20, 400, 1_000_000)
    sizes = np.full(62_500, 16)
    begin = time.process_time()
    order, micro_sizes, _ = lay_out(lengths, sizes, capacity=2048, micro_batch_size=1)
    vectorised = time.process_time() - begin
    assert len(order) == 1_000_000
    assert micro_sizes.sum() == 1_000_000
    begin = time.process_time()
    for row in lengths[:32_000].reshape(-1, 16).tolist():
        plain_first_fit_decreasing(row, 2048)
    one_at_a_time = (time.process_time() - begin) * 1_000_000 / 32_000
    assert vectorised < one_at_a_time  # both on this machine, so a slow one is no excuse
    assert vectorised < 20 * slowness


def test_several_ranks_get_as_many_bins_of_about_equal_length() -> None:
    numbers = np.random.default_rng(0)
    lengths = numbers.integers(5, 200, 400)
    sizes = np.full(25, 16)
    for ranks in (2, 3, 8):
        order, micro, counts = lay_out(
            lengths, sizes, capacity=512, micro_batch_size=4, ranks=ranks
        )
        assert (counts % ranks == 0).all()
        assert sorted(order.tolist()) == list(range(400))
        tokens = np.add.reduceat(lengths[order], np.cumsum(micro) - micro)
        assert tokens.max() <= 512
        for own in np.split(tokens, np.cumsum(counts)[:-1]):
            assert own.max() <= 1.5 * own.mean() + 100
        once = lay_out(lengths, sizes, capacity=512, micro_batch_size=4)[2]
        assert (counts >= once).all()


def test_a_step_of_fewer_rows_than_ranks_uses_as_many_bins_as_rows() -> None:
    _, micro, counts = lay_out(
        np.array([5, 6, 7]), np.array([3]), capacity=64, micro_batch_size=1, ranks=8
    )
    assert counts.tolist() == [3]
    assert micro.tolist() == [1, 1, 1]


def test_a_layout_that_would_overflow_stays() -> None:
    rows = np.array([[50, 40, 40, 35, 35]])
    bins = np.array([[0, 0, 1, 1, 1]])  # longest first would lay 115 into one of two
    assert spread(rows, bins, 110, 2).tolist() == bins.tolist()
    assert spread(rows, bins, 115, 2).tolist() == [[0, 1, 1, 0, 1]]
