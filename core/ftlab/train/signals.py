"""SIGTERM and Ctrl-C become a wish that the loop reads between steps. Standard library only."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """Remembers that a signal asked to stop; a context manager that installs the handlers.

    A handler only sets a name, so a second signal during a save changes nothing: the save ends,
    then the process does. Must be entered in the main thread.
    """

    def __init__(self) -> None:
        self.name = ""  # such as "SIGTERM", "" while nothing came
        self._previous: dict[signal.Signals, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.name)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.name = self.name or signal.Signals(number).name

    def __enter__(self) -> StopSignal:
        for number in SIGNALS:
            self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
