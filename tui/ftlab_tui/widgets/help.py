"""The help page: what the screen is for, and the keys that work here."""

from __future__ import annotations

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static


class Help(ModalScreen[None]):
    """Closed by any of esc, `?` and q."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > VerticalScroll {
        width: 76; max-width: 96%; height: auto; max-height: 92%; padding: 1 2;
        background: $surface; border: round $primary;
    }
    Help Static { width: 100%; height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,f1", "close", "Close", show=False)
    ]

    def __init__(self, title: str, text: str, keys: list[tuple[str, str]]) -> None:
        super().__init__()
        self.heading, self.text, self.keys = title, text, keys

    def compose(self) -> ComposeResult:
        """Title, text, table of keys."""
        with VerticalScroll():
            yield Static(Text(self.heading, "bold"))
            yield Static(Text(f"\n{self.text.strip()}\n"))
            yield Static(self._table())

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, style="bold")
        table.add_column()
        for key, description in self.keys:
            table.add_row(Text(key), Text(description))
        return table

    def action_close(self) -> None:
        """Back to the screen."""
        self.dismiss(None)


def keys_of(screen: Screen[object]) -> list[tuple[str, str]]:
    """(key, what it does) of every binding that is live on the screen, the screen's own first."""
    found: dict[str, str] = {}
    order: dict[object, int] = {screen: 0, screen.app: 2}
    active = sorted(screen.active_bindings.values(), key=lambda item: order.get(item.node, 1))
    for item in active:
        binding = item.binding
        described = binding.tooltip or binding.description
        if described and item.enabled:
            key = screen.app.get_key_display(binding)
            before = found.get(described)
            found[described] = f"{before} {key}" if before and key not in before.split() else key
    return [(key, description) for description, key in found.items()]
