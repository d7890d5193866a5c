"""The top line: the modes with their keys, the one that is shown, and what it is about."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.reactive import reactive
from textual.widget import Widget

from ftlab_tui.modes import MODES


class ModeBar(Widget):
    """One line; a mode is chosen by its key or by a click."""

    DEFAULT_CSS = """
    ModeBar { dock: top; height: 1; background: $panel; color: $foreground; }
    """
    current: reactive[str] = reactive("home")
    about: reactive[str] = reactive("")

    def __init__(self, current: str) -> None:
        super().__init__()
        self.set_reactive(ModeBar.current, current)

    def render(self) -> Text:
        """` 1 Home  2 New ...` and, where there is room, what the screen is about."""
        line = Text(no_wrap=True, overflow="ellipsis")
        for mode in MODES:
            style = "bold reverse" if mode.name == self.current else ""
            line.append(f" {mode.key} {mode.title} ", style)
        room = self.size.width - line.cell_len - 2
        if self.about and room >= 8:
            about = Text(self.about)
            about.truncate(room, overflow="ellipsis")
            line.append(" " * (room - about.cell_len + 1))
            line.append_text(about)
        return line

    async def on_click(self, event: events.Click) -> None:
        """Go to the mode under the mouse."""
        left = 0
        for mode in MODES:
            left += len(mode.title) + 4
            if event.x < left:
                await self.app.run_action(f"mode('{mode.name}')")
                return
