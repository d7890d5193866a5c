"""The command palette, which takes paging keys in a terminal too small to show its list."""

from __future__ import annotations

from textual.command import CommandList, CommandPalette


class Palette(CommandPalette):
    """See `Options`: the palette passes its paging keys to such a list."""

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """No paging without a line."""
        paging = action == "command_list" and str(parameters[0]).startswith("page")
        if paging and not self.query_one(CommandList).scrollable_content_region:
            return False
        return super().check_action(action, parameters)
