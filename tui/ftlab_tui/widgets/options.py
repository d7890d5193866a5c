"""A list to choose from that takes paging keys in a terminal too small to show any of it."""

from __future__ import annotations

from textual.widgets import OptionList


class Options(OptionList):
    """Textual's list looks up the lines it shows when it pages, also when there are none.

    The line under the cursor keeps its own colours: red on a full blue could not be read.
    """

    DEFAULT_CSS = """
    Options { min-width: 4; text-wrap: nowrap; text-overflow: ellipsis; }
    Options > .option-list--option-disabled { color: $text-muted; }
    Options:focus { background-tint: $foreground 0%; }
    Options:focus > .option-list--option-highlighted {
        background: $primary 30%; color: $foreground; text-style: bold;
    }
    Options:focus:ansi > .option-list--option-highlighted {
        background: $block-cursor-background; color: $block-cursor-foreground;
    }
    """

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No paging without a line."""
        if action in ("page_up", "page_down") and not self.scrollable_content_region:
            return False
        return super().check_action(action, parameters)
