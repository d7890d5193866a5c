"""What keeps ranks in step between two steps: the leader's last hook, and the others' only one."""

from __future__ import annotations

from ftlab.errors import Interrupted
from ftlab.train.loop import StepResult
from ftlab.train.ranks.alone import GO, LEAVE, Alone


class Lead:
    """Once the leader's other hooks are done, the others may go on."""

    def __init__(self, ranks: Alone) -> None:
        self.ranks = ranks

    def begin(self, step: int) -> None:
        """The first step may be made."""
        self.ranks.say(GO)

    def after_step(self, result: StepResult) -> None:
        """And the next one."""
        self.ranks.say(GO)


class Follow:
    """Wait for the leader, however long its evaluation takes."""

    def __init__(self, ranks: Alone) -> None:
        self.ranks = ranks

    def begin(self, step: int) -> None:
        """Wait for the first word."""
        self._obey()

    def after_step(self, result: StepResult) -> None:
        """Wait for the next one."""
        self._obey()

    def _obey(self) -> None:
        if self.ranks.hear() == LEAVE:
            raise Interrupted("the leader has saved and leaves")
