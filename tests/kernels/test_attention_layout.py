"""Layouts: spans, tables of tiles, positions, operations, and tables that a graph can reuse."""

from __future__ import annotations

import pytest
import torch
from attention_formula import PACKS, bounds, pack, sees

from ftlab_kernels import attention_layout
from ftlab_kernels.attention_layout import Layout, Span, layout

PAIRS = layout([0, 10, 14, 20, 23, 30], prefix=[-1, 0, 0, 0, -1])


def test_a_prompt_and_its_first_continuation_are_one_span() -> None:
    assert PAIRS.spans == (
        Span(0, 14, (0, 0), (14, 23), 10),
        Span(14, 20, (0, 10), (0, 0), 0),
        Span(20, 23, (0, 10), (0, 0), 0),
        Span(23, 30, (0, 0), (0, 0), 0),
    )


def test_facts() -> None:
    assert (PAIRS.tokens, PAIRS.longest, PAIRS.uniform, PAIRS.shared) == (30, 16, False, True)
    plain = layout([0, 8, 16])
    assert (plain.longest, plain.uniform, plain.shared) == (8, True, False)
    assert not layout([0, 8, 17]).uniform
    assert not layout([0, 8, 16], prefix=[-1, 0]).uniform


def test_positions_restart_behind_the_prompt() -> None:
    expected = [*range(10), *range(10, 14), *range(10, 16), *range(10, 13), *range(7)]
    assert PAIRS.positions().tolist() == expected
    assert PAIRS.positions().dtype == torch.int32
    assert PAIRS.positions() is PAIRS.positions()


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("block", [16, 64])
@pytest.mark.parametrize("kind", ["queries", "keys"])
def test_every_row_of_every_head_has_one_program(name: str, block: int, kind: str) -> None:
    plan = pack(name)
    table, order = plan.queries(block, 4, 2) if kind == "queries" else plan.keys(block, 2)
    heads = len(order) // len(table)
    assert sorted(order.tolist()) == list(range(len(table) * heads))
    rows = []
    for first, _, end, *_ in table.tolist():
        rows += range(first, min(first + block, end))
    assert rows == list(range(plan.tokens))


def test_few_programs_start_by_falling_work() -> None:
    _, order = layout([0, 64, 96]).keys(16, 2)
    assert (order // 2).tolist() == [0, 0, 1, 1, 2, 2, 4, 4, 3, 3, 5, 5]


def test_of_many_tiles_of_one_head_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_layout, "FEW", 0)
    plan = layout([0, 64, 96])
    table, order = plan.queries(16, 2, 1)
    assert table[:, 0].tolist() == [0, 16, 32, 48, 64, 80]
    tiles = [(int(i) // 2, int(i) % 2) for i in order]
    # Work 16, 32, 48, 64 and 16, 32: more than half of 64 first, then the halves of that.
    assert tiles[:4] == [(3, 0), (3, 1), (2, 0), (2, 1)]
    assert tiles[4:8] == [(1, 0), (1, 1), (5, 0), (5, 1)]
    _, order = plan.keys(16, 2)
    tiles = [(int(i) // 2, int(i) % 2) for i in order]
    assert tiles[:4] == [(0, 0), (1, 0), (0, 1), (1, 1)]


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("window", [None, 1, 17, 60, 1000])
def test_operations_are_those_of_the_visible_pairs(name: str, window: int | None) -> None:
    plan = pack(name)
    assert plan.flops(3, 16, window) == 4 * 3 * 16 * int(sees(plan, window).sum())


def test_tables_of_one_capacity_have_one_shape_and_can_be_swapped() -> None:
    lengths = [[40, 40, 20], [1, 98, 1], [100]]
    first, *others = (layout(bounds(part), capacity=3) for part in lengths)
    held = first.queries(16, 4, 2), first.keys(16, 2)
    positions = first.positions()
    for other in others:
        first.load(other)
        theirs = other.queries(16, 4, 2), other.keys(16, 2)
        for mine, its in zip(held, theirs, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(mine, its, strict=True))
        assert torch.equal(positions, other.positions())
    assert first.keys(16, 2) is held[1]


@pytest.mark.parametrize(
    "other", [layout([0, 50], capacity=3), layout([0, 100], capacity=4), layout([0, 100])]
)
def test_other_classes_are_not_swapped(other: Layout) -> None:
    with pytest.raises(ValueError, match="cannot be swapped"):
        layout([0, 100], capacity=3).load(other)


@pytest.mark.parametrize("bad", [[0], [1, 3], [0, 3, 3], []])
def test_bad_boundaries_are_refused(bad: list[int]) -> None:
    with pytest.raises(ValueError, match="must rise from 0"):
        layout(bad)


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ([-1, 0], "names 2 segments"),
        ([0, -1, -1], "segment 0"),
        ([-1, 0, 1], "segment 2"),
        ([-1, -1, 0], "segment 2"),
    ],
)
def test_bad_prefixes_are_refused(prefix: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layout([0, 3, 6, 9], prefix=prefix)


def test_more_segments_than_the_capacity_are_refused() -> None:
    with pytest.raises(ValueError, match="capacity of 1"):
        layout([0, 1, 2], capacity=1)
