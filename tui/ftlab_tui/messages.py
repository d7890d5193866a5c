"""What a screen asks of the app: to show another run, to begin a new one from it, to copy a text."""

from __future__ import annotations

from ftlab.run import Run
from textual.message import Message


class OpenRun(Message):
    """Show this run in the monitor."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class CloneRun(Message):
    """Begin a new run from this one's config."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


class CopyText(Message):
    """Copy a text; `what` names it for the person."""

    def __init__(self, text: str, what: str) -> None:
        super().__init__()
        self.text, self.what = text, what
