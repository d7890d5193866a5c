"""Ctrl-C and SIGTERM as counts instead of exceptions, so that nothing is cut off half-way."""

from __future__ import annotations

import contextlib
import signal
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Counts SIGINT and SIGTERM while the block runs; outside the main thread it counts nothing."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        with contextlib.suppress(ValueError):  # raised outside the main thread
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
