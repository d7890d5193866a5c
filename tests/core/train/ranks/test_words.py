"""The others go on when the leader says so, and leave when it leaves."""

from __future__ import annotations

from typing import Any

import pytest

from ftlab.errors import Interrupted
from ftlab.train.ranks.alone import GO, LEAVE, Alone
from ftlab.train.ranks.words import Follow, Lead


class Told(Alone):
    def __init__(self, *words: int) -> None:
        self.words, self.said = list(words), []  # type: ignore[var-annotated]

    def say(self, word: int) -> None:
        self.said.append(word)

    def hear(self) -> int:
        return self.words.pop(0)


def test_the_leader_lets_the_others_go_on() -> None:
    ranks, result = Told(), Any
    hook = Lead(ranks)
    hook.begin(0)
    hook.after_step(result)  # type: ignore[arg-type]
    assert ranks.said == [GO, GO]


def test_a_follower_does_as_it_is_told() -> None:
    ranks, result = Told(GO, GO, LEAVE), Any
    hook = Follow(ranks)
    hook.begin(0)
    hook.after_step(result)  # type: ignore[arg-type]
    with pytest.raises(Interrupted):
        hook.after_step(result)  # type: ignore[arg-type]
