"""The width of New's right pane: changed by keys, remembered between starts."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType

from ftlab_tui.new.side import Side
from ftlab_tui.widgets.modescreen import ModeScreen

NARROW = 100  # columns; below, the pane lies under the steps and is as wide as they are
STEP = 4  # columns by one key
LEAST = 24  # columns of the pane
KEPT = 48  # columns that the steps keep


def fitting(width: int, whole: int) -> int:
    """The width nearest to `width` that leaves room for the steps in `whole` columns."""
    return max(LEAST, min(width, whole - KEPT))


class Widths(ModeScreen):
    """The keys that move the border between the steps and the pane."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+left", "widen(1)", "Wider file", show=False),
        Binding("ctrl+right", "widen(-1)", "Narrower file", show=False),
    ]

    def action_widen(self, by: int) -> None:
        """Another width for the pane; it is remembered."""
        if self.size.width < NARROW:
            self.notify("there is no pane beside the steps at this width", timeout=2)
            return
        side = self.query_one(Side)
        width = fitting(side.outer_size.width + by * STEP, self.size.width)
        self.layout_memory.set("new.side", width)
        self.use_width()

    def use_width(self) -> None:
        """Give the pane the width that was chosen, where it lies beside the steps."""
        chosen = self.layout_memory.get("new.side", 0)
        for side in self.query(Side):
            if chosen and self.size.width >= NARROW:
                side.styles.width = fitting(chosen, self.size.width)
            else:
                side.styles.clear_rule("width")
                side.refresh(layout=True)

    def on_resize(self) -> None:
        """Another size of the terminal may have less room."""
        self.use_width()
