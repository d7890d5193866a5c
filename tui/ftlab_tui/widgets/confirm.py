"""Ask before something that cannot be undone: names the object, and the safe answer is chosen."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label


class Confirm(ModalScreen[bool]):
    """True only when the person says so.

        if await self.app.push_screen_wait(Confirm("Stop run x?", "It saves first.", "Stop")): ...

    Args:
        question: names the object, such as "Delete run sft-smollm2-1124?".
        detail: what happens then, such as the path and the bytes.
        yes: the word on the button that does it.
    """

    DEFAULT_CSS = """
    Confirm { align: center middle; background: $background 60%; }
    Confirm > Vertical {
        width: 64; max-width: 95%; height: auto; max-height: 90%; padding: 1 2;
        background: $surface; border: round $warning;
    }
    Confirm .question { text-style: bold; width: 100%; }
    Confirm .detail { margin: 1 0; width: 100%; }
    Confirm Horizontal { height: auto; align-horizontal: right; }
    Confirm Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes", show=False),
        Binding("n,escape", "answer(False)", "No", show=False),
        Binding("left,right", "app.focus_next", show=False),
    ]

    def __init__(self, question: str, detail: str = "", yes: str = "Yes", no: str = "No") -> None:
        super().__init__()
        self.question, self.detail, self.yes, self.no = question, detail, yes, no

    def compose(self) -> ComposeResult:
        """The question, the consequence, and two buttons with the safe one first."""
        with Vertical():
            yield Label(self.question, classes="question", markup=False)
            if self.detail:
                yield Label(self.detail, classes="detail", markup=False)
            with Horizontal():
                yield Button(f"{self.no} (n)", id="no", compact=True)
                yield Button(f"{self.yes} (y)", id="yes", variant="warning", compact=True)

    def on_mount(self) -> None:
        """The safe answer has the focus."""
        self.query_one("#no").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Take the answer of a click or Enter."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Take the answer of a key."""
        self.dismiss(answer)
