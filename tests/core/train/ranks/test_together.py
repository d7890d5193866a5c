"""What ranks say to each other, and how one learns that another is gone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn import Parameter

from ftlab.train.ranks.alone import LEAVE, Diverged, RankLost
from ftlab.train.ranks.room import Room
from ftlab.train.ranks.together import LOOK_EVERY, Together, fingerprint

Do = Callable[..., list[object]]


def test_words_between_ranks(do_ranks: Do, tmp_path: Path) -> None:
    def work(rank: int) -> object:
        order = tmp_path / "made"

        def make() -> str:
            if rank == 0:
                order.write_text("by the leader")
            return order.read_text()

        with Together(Room(tmp_path), rank, 2, "cpu") as ranks:
            told = [
                ranks.first(make),
                ranks.share(lambda: {"path": "a", "step": 3} if rank == 0 else None),
                ranks.agree(None),
                ranks.agree("mine" if rank else None),
            ]
            parameter = Parameter(torch.ones(2))
            if rank == 0:
                parameter.grad = torch.tensor([1.0, 2.0])
            ranks.reserve([parameter])
            sums = ranks.add([torch.full((2,), 5.0)] if rank == 0 else [], 1, 2, [parameter])
            assert parameter.grad is not None
            told += [[s.tolist() for s in sums], parameter.grad.tolist()]
            ranks.check(1, ((1 << 64) - 1, 0.5), [parameter])
            assert ranks.peak > 0
            if rank == 0:
                ranks.say(LEAVE)
            else:
                assert ranks.hear() == LEAVE
        return told

    shared = ["by the leader", {"path": "a", "step": 3}, None]
    after = [[[5.0, 5.0]], [1.0, 2.0]]
    assert do_ranks(work) == [[*shared, "rank 1 could not", *after], [*shared, "mine", *after]]


@pytest.mark.parametrize(
    ("step", "marks", "words"),
    [(3, 1, "another batch"), (LOOK_EVERY, 0, "other weights")],
)
def test_one_that_went_another_way(
    do_ranks: Do, tmp_path: Path, step: int, marks: int, words: str
) -> None:
    def work(rank: int) -> object:
        parameter = Parameter(torch.tensor([1.0, 1.0 + 1e-7 * rank]))
        with Together(Room(tmp_path), rank, 2, "cpu") as ranks:
            try:
                ranks.check(step, (marks * rank, 0.5), [parameter])
            except Diverged as error:
                return str(error)
        return ""

    told = do_ranks(work)
    assert told[0] == told[1]
    assert f"rank 1 has {words}" in str(told[0])


def test_one_that_is_gone(do_ranks: Do, tmp_path: Path) -> None:
    def work(rank: int) -> object:
        ranks = Together(Room(tmp_path), rank, 2, "cpu").__enter__()
        if rank == 1:
            (tmp_path / "gave-1.json").write_text('{"gave": "gone"}')
            os._exit(0)
        try:
            ranks.hear() if rank else ranks.agree(None)
        except RankLost as error:
            return "lost the others" in str(error)
        return None

    assert do_ranks(work) == [True, "gone"]


def test_a_fingerprint_sees_every_bit_and_place() -> None:
    first, second = Parameter(torch.ones(3)), Parameter(torch.zeros(3))
    whole = fingerprint([first, second])
    assert whole == fingerprint([Parameter(torch.ones(3)), Parameter(torch.zeros(3))])
    assert whole != fingerprint([second, first])
    flipped = first.detach().clone()
    flipped.view(torch.int32)[1] ^= 1
    assert whole != fingerprint([Parameter(flipped), second])
    assert fingerprint([]) == 0
    assert fingerprint([Parameter(torch.ones(2, dtype=torch.bfloat16))]) != 0
