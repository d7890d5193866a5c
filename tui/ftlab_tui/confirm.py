"""A question before something that cannot be taken back: names the object, defaults to no."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class Confirm(ModalScreen[bool]):
    """Yes or no. Enter is no until the person moves to yes; `y` says yes, `n` and escape say no."""

    DEFAULT_CSS = """
    Confirm {
        align: center middle;
        & > Vertical {
            width: 70;
            max-width: 95%;
            height: auto;
            max-height: 90%;
            border: round $accent;
            background: $surface;
            padding: 0 1;
            &.-danger { border: round $error; }
        }
        VerticalScroll { height: auto; max-height: 10; }
        #question { text-style: bold; height: auto; }
        #detail { height: auto; margin-top: 1; }
        Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
        Button { margin-left: 2; min-width: 12; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "No"),
        Binding("y", "answer(True)", "Yes"),
        Binding("left", "app.focus_previous", show=False),
        Binding("right", "app.focus_next", show=False),
    ]

    def __init__(
        self, question: str, detail: str = "", *, yes: str = "Yes", no: str = "No",
        danger: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.question, self.detail = question, detail
        self.yes, self.no, self.danger = yes, no, danger

    def compose(self) -> ComposeResult:
        """The question, what it means, and the answers: the safe one first."""
        with Vertical(classes="-danger" if self.danger else ""):
            with VerticalScroll(can_focus=False):
                yield Static(Text(self.question), id="question")
                yield Static(Text(self.detail), id="detail")
            with Horizontal():
                yield Button(self.no, id="no", variant="primary")
                yield Button(self.yes, id="yes", variant="error" if self.danger else "default")

    def on_mount(self) -> None:
        """The safe answer is under the Enter key."""
        self.query_one("#no", Button).focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """An answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """An answer by key."""
        self.dismiss(yes)
