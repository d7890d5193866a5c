"""One process has nobody to ask, to wait for or to disagree with."""

from __future__ import annotations

import torch

from ftlab.train.ranks.alone import GO, Alone


def test_it_leads_and_does_everything() -> None:
    alone = Alone()
    assert alone.leads
    assert list(alone.own(5)) == [0, 1, 2, 3, 4]
    assert alone.threads(3) == 3
    assert alone.first(lambda: 7) == alone.share(lambda: 7) == 7
    assert alone.agree(None) is None
    assert alone.agree("a fault") == "a fault"
    sums = [torch.zeros(1)]
    assert alone.add(sums, 1, 1, []) is sums
    alone.reserve([])
    alone.check(1, (2, 3.0), [])
    alone.say(GO)
    assert alone.hear() == GO


def test_micro_batches_go_round() -> None:
    three = [Alone(), Alone(), Alone()]
    for rank, one in enumerate(three):
        one.rank, one.size = rank, 3
    assert [list(one.own(4)) for one in three] == [[0, 3], [1], [2]]
    assert [list(one.own(2)) for one in three] == [[0], [1], []]
    assert three[0].threads(7) == 2
    assert three[2].threads(1) == 1
