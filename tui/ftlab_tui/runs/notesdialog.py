"""A dialog for a run's tags and note."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from ftlab.notes import Notes, parse_tags


class NotesDialog(ModalScreen[Notes | None]):
    """Enter keeps, esc leaves everything as it was."""

    DEFAULT_CSS = """
    NotesDialog { align: center middle; background: $background 60%; }
    NotesDialog > Vertical {
        width: 70; max-width: 95%; height: auto; padding: 1 2;
        background: $surface; border: round $primary;
    }
    NotesDialog Label { width: 100%; }
    NotesDialog .title { text-style: bold; }
    NotesDialog Input { border: none; background: $panel; height: 1; margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave", show=False),
    ]

    def __init__(self, run_id: str, notes: Notes) -> None:
        super().__init__()
        self.run_id, self.notes = run_id, notes

    def compose(self) -> ComposeResult:
        """Two lines to type into."""
        with Vertical():
            yield Label(f"Notes of {self.run_id}", classes="title", markup=False)
            yield Label("tags, separated by spaces")
            yield Input(" ".join(self.notes.tags), id="tags", compact=True)
            yield Label("note")
            yield Input(self.notes.text, id="note", compact=True)
            yield Label("Enter keeps, esc leaves it as it was")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Keep."""
        event.stop()
        tags = parse_tags(self.query_one("#tags", Input).value)
        self.dismiss(Notes(tags, self.query_one("#note", Input).value.strip()))

    def action_leave(self) -> None:
        """Leave."""
        self.dismiss(None)
