"""The ranks of a run as the loop sees them; this is the usual case, one process that has no others.

A rank is one of the processes that train a run together. Rank 0 leads: it alone writes the run
directory, evaluates and answers requests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from ftlab.errors import FtlabError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

T = TypeVar("T")
GO, LEAVE = 0, 1  # what the leader says between steps


class RankLost(FtlabError):
    """Another process of the run is gone; what it said last is the reason."""


class Diverged(FtlabError):
    """The processes no longer hold the same weights."""


class Alone:
    """One process: it leads, does everything, and agrees with itself."""

    rank = 0
    size = 1
    peak = 0  # most bytes of device memory that any of the others had in use

    @property
    def leads(self) -> bool:
        """Whether this process writes the run."""
        return self.rank == 0

    def own(self, count: int) -> range:
        """Which of the `count` micro-batches of a step are computed here: every `size`-th."""
        return range(self.rank, count, self.size)

    def threads(self, threads: int) -> int:
        """This process's share of the CPU threads of the plan."""
        return max(1, threads // self.size)

    def first(self, make: Callable[[], T]) -> T:
        """What `make` gives; the leader makes first, so that the others find its files."""
        return make()

    def share(self, make: Callable[[], Any]) -> Any:
        """What `make` gives the leader, as a JSON value."""
        return make()

    def agree(self, fault: str | None) -> str | None:
        """The fault of this process, or of the first other that has one."""
        return fault

    def reserve(self, parameters: Iterable[Parameter]) -> None:
        """Take the room that `add` will need."""

    def add(
        self, sums: list[Tensor], count: int, width: int, parameters: Iterable[Parameter]
    ) -> list[Tensor]:
        """Add up the gradients of all processes, in place.

        Args:
            sums: fp64 [width] of each micro-batch computed here.
            count: micro-batches of the step.
        Returns:
            the sums of every micro-batch of the step, in their order.
        """
        return sums

    def check(self, step: int, marks: tuple[int, float], parameters: Iterable[Parameter]) -> None:
        """Compare what every process has come to after `step` steps.

        Args:
            marks: the hash of the batch, and the norm of the gradients.
        Raises:
            Diverged: one came to something else.
        """

    def say(self, word: int) -> None:
        """Tell the others whether to go on."""

    def hear(self) -> int:
        """What the leader says."""
        return GO
