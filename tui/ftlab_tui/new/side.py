"""The right pane of New, on every step: the YAML, the memory bar, and the headless command."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.widgets import Static

from ftlab.plan import Plan
from ftlab_tui import theme
from ftlab_tui.new import show


class Side(Vertical):
    """Under 100 columns it becomes two lines at the bottom: bar and command."""

    DEFAULT_CSS = """
    Side { width: 44; border-left: solid $panel; padding: 0 1; }
    Side .head { height: 1; color: $text-muted; }
    Side #yaml { height: 1fr; }
    Side #bar { height: 1; }
    Side #note { height: auto; max-height: 4; color: $text-muted; }
    Side #command { height: auto; max-height: 3; color: $accent; }
    """

    def compose(self) -> ComposeResult:
        """Three parts under small headings."""
        yield Static("the file", classes="head")
        with VerticalScroll(id="yaml", can_focus=False):
            yield Static(id="text")
        yield Static("memory", classes="head")
        yield Static(id="bar")
        yield Static(id="note")
        yield Static("the same without this app", classes="head")
        yield Static(id="command")

    def update(self, yaml: str, plan: Plan | None, note: str, command: str) -> None:
        """Show the draft as it stands; `note` says what is missing or going on."""
        colours = theme.tones(self.app.theme_variables)
        self.query_one("#text", Static).update(show.yaml(yaml, colours))
        bar = self.query_one("#bar", Static)
        width = (bar.size.width or 40) - 1
        shown = show.memory_bar(plan, width, colours) if plan else Text(note or "-", "dim")
        shown.no_wrap, shown.overflow = True, "ellipsis"
        bar.update(shown)
        self.query_one("#note", Static).update(Text(note if plan else ""))
        line = Text(f"$ {command}")
        self.query_one("#command", Static).update(line)
