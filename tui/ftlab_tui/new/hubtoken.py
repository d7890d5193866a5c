"""The prompt for a token of the hub, for gated and private ones; it stays in this process alone.

The token goes into HF_TOKEN of this process, which the children that read models and the trainers
started from here inherit. No YAML, command line, log or message holds it; a container gets it
through a private file that is removed with it.
"""

from __future__ import annotations

import os
import re
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

VARIABLE = "HF_TOKEN"
HINT = "ctrl+t gives a token"
ABOUT = (
    "The token is kept in this process, for the runs started from it, until the app ends; only a "
    "container gets it in a file, private and removed with it. `hf auth login` in a shell stores "
    "one for good."
)


def fault(token: str) -> str:
    """What is wrong with a token as it was typed, "" when nothing can be seen to be."""
    if not token:
        return "nothing was typed"
    if not re.fullmatch(r"[!-~]+", token):
        return "a token is one word of plain characters"
    return ""


def may_help(refused: str) -> bool:
    """Whether to ask for a token at once after the hub said no in these words.

    What is not there for the token in use may just be misspelt: then it is not asked for again.
    """
    return bool(refused) and ("is gated" in refused or not os.environ.get(VARIABLE))


def give(token: str) -> None:
    """Use the token from now on, here and in every process started from here."""
    os.environ[VARIABLE] = token


class TokenDialog(ModalScreen[str | None]):
    """The token, or None when the person leaves; what is typed is never shown.

    Args:
        refused: what the hub said no to, "" when nothing was asked for yet.
    """

    DEFAULT_CSS = """
    TokenDialog { align: center middle; background: $background 60%; }
    TokenDialog > Vertical {
        width: 70; max-width: 95%; height: auto; max-height: 95%; padding: 1 2;
        background: $surface; border: round $primary;
    }
    TokenDialog Label { width: 100%; }
    TokenDialog .title { text-style: bold; }
    TokenDialog .refused { margin-top: 1; color: $warning; }
    TokenDialog .wrong { display: none; color: $error; }
    TokenDialog .wrong.-some { display: block; }
    TokenDialog Input { border: none; background: $panel; height: 1; margin: 1 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Leave", show=False)]

    def __init__(self, refused: str = "") -> None:
        super().__init__()
        self.refused = refused

    def compose(self) -> ComposeResult:
        """Why it is asked for, the line, where it goes."""
        with Vertical():
            yield Label("A token of the hub", classes="title")
            if self.refused:
                yield Label(self.refused, classes="refused", markup=False)
            yield Input(placeholder="hf_...", password=True, id="token", compact=True)
            yield Label("", classes="wrong", markup=False)
            yield Label(ABOUT, markup=False)
            yield Label("Enter uses it, esc leaves")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Take it, or say what is wrong with it."""
        event.stop()
        token = event.value.strip()
        wrong = fault(token)
        if not wrong:
            self.dismiss(token)
            return
        line = self.query_one(".wrong", Label)
        line.update(wrong)
        line.add_class("-some")

    def action_leave(self) -> None:
        """Leave."""
        self.dismiss(None)
