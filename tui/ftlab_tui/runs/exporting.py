"""A dialog for an export: in which form, how the weights are held, and the command that does it."""

from __future__ import annotations

import shlex
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label

from ftlab.run import Run
from ftlab_tui.names import short
from ftlab_tui.widgets.choice import Choice

ABOUT = {
    "merged": "the adapter in its base, an ordinary Hugging Face model",
    "gguf": "one file for llama.cpp and what is built on it",
    "ollama": "such a file with a Modelfile: the chat template in Ollama's language",
}
HELD = ("bf16", "fp16", "fp32", "q8_0")
PLAIN = HELD[:3]  # what a Hugging Face model is saved in


class ExportDialog(ModalScreen[tuple[str, ...] | None]):
    """The arguments of `ftrun export`, or None when the person leaves, which is the safe answer."""

    DEFAULT_CSS = """
    ExportDialog { align: center middle; background: $background 60%; }
    ExportDialog > Vertical {
        width: 72; max-width: 95%; height: auto; max-height: 95%; padding: 1 2;
        background: $surface; border: round $primary;
    }
    ExportDialog Label { width: 100%; }
    ExportDialog .title { text-style: bold; margin-bottom: 1; }
    ExportDialog .row { height: 1; }
    ExportDialog .row Label { width: 10; }
    ExportDialog .about { margin: 1 0; }
    ExportDialog .buttons { height: auto; align-horizontal: right; }
    ExportDialog Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Export", show=False),
        Binding("n,escape", "answer(False)", "Leave", show=False),
        Binding("down", "app.focus_next", show=False),
        Binding("up", "app.focus_previous", show=False),
    ]

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run
        # A run that trained every weight has nothing to merge.
        self.whole = (run.export_dir / "model").is_dir()
        self.forms = [form for form in ABOUT if form != "merged" or not self.whole]

    def compose(self) -> ComposeResult:
        """Two choices, what they mean, and two buttons with the safe one first."""
        with Vertical():
            yield Label(f"Export run {self.run.id}?", classes="title", markup=False)
            with Horizontal(classes="row"):
                yield Label("as")
                yield Choice(self.forms, self.forms[0], id="form")
            with Horizontal(classes="row"):
                yield Label("weights")
                yield Choice(self._held(self.forms[0]), HELD[0], id="held")
            yield Label("", classes="about", markup=False)
            with Horizontal(classes="buttons"):
                yield Button("No (n)", id="no", compact=True)
                yield Button("Export (y)", id="yes", variant="primary", compact=True)

    def on_mount(self) -> None:
        """The first choice has the focus; Enter alone starts nothing."""
        self.query_one("#form").focus()
        self._tell()

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Say what it means now."""
        event.stop()
        if event.choice.id == "form":
            held = self.query_one("#held", Choice)
            held.options = self._held(event.value)
            if held.value not in held.options:
                held.value = held.options[0]
            held.refresh()
        self._tell()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """A click, or Enter on a button."""
        self.action_answer(event.button.id == "yes")

    def action_answer(self, yes: bool) -> None:
        """Give the arguments, or nothing."""
        self.dismiss(self.arguments(str(self.run.path)) if yes else None)

    def arguments(self, run: str) -> tuple[str, ...]:
        """Of `ftrun`, with the run as it is named here."""
        form, held = self._chosen()
        return ("export", run, "--to", form, "--dtype", held)

    @property
    def detail(self) -> str:
        """What is made, from what, where, and the command."""
        form, held = self._chosen()
        folder = {"merged": "merged", "gguf": f"gguf-{held}", "ollama": "ollama"}[form]
        size = "about half of bf16, each weight rounded to 8 bits" if held == "q8_0" else ""
        source = "its weights are" if self.whole else "adapter and base are put together"
        lines = [
            ABOUT[form] + (f"; {size}" if size else ""),
            f"{source} held in main memory as fp32; what the run made stays",
            f"into {short(self.run.export_dir / folder)}",
            f"$ ftrun {shlex.join(self.arguments(self.run.id))}",
        ]
        return "\n".join(lines)

    def _chosen(self) -> tuple[str, str]:
        return self.query_one("#form", Choice).value, self.query_one("#held", Choice).value

    def _held(self, form: str) -> list[str]:
        return list(PLAIN if form == "merged" else HELD)

    def _tell(self) -> None:
        self.query_one(".about", Label).update(self.detail)
