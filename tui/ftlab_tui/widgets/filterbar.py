"""The filter line at the bottom: opened by `/`, narrows as one types, closed by esc or Enter."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import Input, Label


class FilterBar(Horizontal):
    """Hidden until `open`; posts `Changed` at every keystroke."""

    DEFAULT_CSS = """
    FilterBar { height: 1; display: none; background: $panel; }
    FilterBar.-open { display: block; }
    FilterBar Label { width: auto; padding: 0 1; color: $accent; }
    FilterBar Input { width: 1fr; border: none; height: 1; padding: 0; background: $panel; }
    FilterBar Input:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "clear", "Clear", show=False)]

    class Changed(Message):
        """The text changed; "" means no filter."""

        def __init__(self, text: str) -> None:
            self.text = text
            super().__init__()

    def compose(self) -> ComposeResult:
        """A sign and the text."""
        yield Label("/")
        # Disabled while it is hidden, else it would take the focus, and every key, of a screen that
        # has nothing else to take it.
        hint = "type to filter, Enter keeps it, esc clears it"
        yield Input(placeholder=hint, compact=True, disabled=True)

    @property
    def text(self) -> str:
        """The filter as it stands."""
        return self.query_one(Input).value

    def open(self) -> None:
        """Show the line and type into it."""
        self.add_class("-open")
        line = self.query_one(Input)
        line.disabled = False
        line.focus()

    def close(self) -> None:
        """Clear the filter and hide the line."""
        self.query_one(Input).value = ""
        self._leave()

    def action_clear(self) -> None:
        """esc: back to everything."""
        self.close()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Pass the text on."""
        event.stop()
        self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Enter: keep the filter, go back to what is filtered."""
        event.stop()
        if event.value:
            self.screen.focus_next()
        else:
            self._leave()

    def _leave(self) -> None:
        """Hide the line and give the focus to what is filtered."""
        self.screen.focus_next()
        self.remove_class("-open")
        self.query_one(Input).disabled = True
