"""A text that is painted when it changed, and laid out anew only when its height did."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static


class Line(Static):
    """A `Static` for text of a screen's full width that is set again and again.

    `Static.update` lays the whole screen out each time, which is most of what a watching screen
    would cost.
    """

    _shown: tuple[object, ...] = ()

    def show(self, text: Text, *look: object) -> None:
        """Show the text; `look` is what else its picture depends on, such as the theme."""
        shown = text.plain, tuple(text.spans), *look
        if shown == self._shown:
            return
        before = self._shown[0] if self._shown else ""
        self._shown = shown
        same = str(before).count("\n") == text.plain.count("\n") and bool(before) == bool(text)
        self.update(text, layout=not same)
