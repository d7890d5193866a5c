"""How often the charts of a growing run are drawn: as often as a small share of a core allows.

Drawing is nearly all that watching costs. What it takes depends on machine, terminal size and run,
so the rate is not fixed: the next drawing waits until what this thread computed since the last one
is a small share of the time that passed, and for two seconds at most.
"""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.05  # of a core
LONGEST = 2.0  # seconds that a chart may be behind


class Pacing:
    """`due()` is true when it is time to draw again, and counts as drawing then."""

    def __init__(
        self,
        share: float = SHARE,
        longest: float = LONGEST,
        clock: Callable[[], float] = time.monotonic,
        spent: Callable[[], float] = time.thread_time,
    ) -> None:
        self.share, self.longest = share, longest
        self._clock, self._spent = clock, spent
        self._began: tuple[float, float] | None = None  # (clock, spent) at the last drawing

    def due(self) -> bool:
        """Whether to draw now."""
        now, spent = self._clock(), self._spent()
        if self._began is not None:
            passed, used = now - self._began[0], spent - self._began[1]
            if used > self.share * passed and 0 <= passed < self.longest:
                return False
        self._began = now, spent
        return True

    def reset(self) -> None:
        """Draw at the next chance, such as for another run."""
        self._began = None
