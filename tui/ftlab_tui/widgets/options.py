"""A list to choose from that takes paging keys in a terminal too small to show any of it."""

from __future__ import annotations

from textual.widgets import OptionList


class Options(OptionList):
    """Textual's list looks up the lines it shows when it pages, also when there are none."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No paging without a line."""
        if action in ("page_up", "page_down") and not self.scrollable_content_region:
            return False
        return super().check_action(action, parameters)
