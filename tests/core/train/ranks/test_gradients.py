"""Sums over ranks: in their order, bit for bit, however the gradients are cut."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
import torch
import torch.distributed as dist

from ftlab.train.ranks.gradients import OrderedSum, _pieces

SHAPES = ((3, 5), (7,), (64, 33), (1,))


def gradients(rank: int) -> list[torch.Tensor]:
    numbers = torch.Generator().manual_seed(rank)
    made = [torch.randn(shape, generator=numbers) * 10**rank for shape in SHAPES]
    return [*made, torch.randn((9,), generator=numbers).double()]


@pytest.mark.parametrize("limit", [1, 5, 64, 10_000])
def test_pieces_hold_everything_once(limit: int) -> None:
    whole = gradients(0)
    pieces = list(_pieces(whole, limit))
    assert all(sum(len(part) for part in piece) <= limit for piece in pieces)
    assert all(len({part.dtype for part in piece}) == 1 for piece in pieces)
    flat = [part.double() for piece in pieces for part in piece]
    assert torch.equal(torch.cat(flat), torch.cat([g.double().view(-1) for g in whole]))


def test_sums_are_those_of_one_process_in_the_order_of_the_ranks(
    do_ranks: Callable[..., list[list[float]]],
) -> None:
    def work(rank: int) -> list[float]:
        dist.init_process_group("gloo", timeout=datetime.timedelta(seconds=60))
        found: list[list[float]] = []
        for piece in (4, 100, 1 << 20):
            mine, add = gradients(rank), OrderedSum(3, piece)
            add.reserve(mine)
            add(mine)
            found.append(torch.cat([g.double().view(-1) for g in mine]).tolist())
        dist.destroy_process_group()
        assert found[0] == found[1] == found[2]
        return found[0]

    zero, one, two = (gradients(rank) for rank in range(3))
    expected = [(a + b) + c for a, b, c in zip(zero, one, two, strict=True)]
    values = torch.cat([g.double().view(-1) for g in expected]).tolist()
    assert do_ranks(work, 3) == [values] * 3
