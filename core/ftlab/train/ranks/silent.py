"""The voice of a rank that does not lead: it says nothing, for the run directory has one writer."""

from __future__ import annotations

from typing import Any

from ftlab.events import EventWriter, Heartbeat


class SilentEvents(EventWriter):
    """Takes events and writes none."""

    def __init__(self) -> None:
        """Opens no file."""

    def write(self, kind: str, **fields: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class SilentHeartbeat(Heartbeat):
    """Never beats."""

    def __init__(self) -> None:
        """Has no run."""

    def update(
        self, *, step: int | None = None, steps: int | None = None, message: str | None = None
    ) -> None:
        """Nothing."""
