"""What every mode's screen is: the bar of modes, a body, the filter line and the footer.

A screen gives a body and says what can be filtered, copied and edited; the keys are the app's.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import ComposeResult
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer

from ftlab_tui.lab import Lab
from ftlab_tui.layout import Layout
from ftlab_tui.widgets.filterbar import FilterBar
from ftlab_tui.widgets.modebar import ModeBar

if TYPE_CHECKING:
    from ftlab_tui.app import FtuiApp


class ModeScreen(Screen[None]):
    """Base of the five screens. Override what the screen can do; the rest says that it cannot."""

    MODE: ClassVar[str] = ""
    HELP_TEXT: ClassVar[str] = ""
    # Below 100 columns a screen is -narrow, from 140 -wide; below 30 lines -short.
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012  Textual declares it on the instance
        (0, "-narrow"), (100, "-normal"), (140, "-wide"),
    ]  # fmt: skip
    VERTICAL_BREAKPOINTS = [(0, "-short"), (30, "-tall")]  # noqa: RUF012

    # -- what a mode gives ----------------------------------------------------------------------

    def body(self) -> Iterable[Widget]:
        """The widgets between the bar and the footer."""
        return ()

    def about(self) -> str:
        """A few words for the right end of the bar, such as the run's name."""
        return self.lab.host

    def apply_filter(self, text: str) -> None:
        """Narrow what is shown to what contains `text`; "" shows all."""

    def can_filter(self) -> bool:
        """Whether there is anything to filter now."""
        return True

    def copied(self) -> tuple[str, str] | None:
        """(name, text) of what `y` copies now, or None when there is nothing."""
        return None

    def edited(self) -> Path | None:
        """The file that `e` opens in $EDITOR, or None when there is none."""
        return None

    def can_edit(self) -> bool:
        """Whether the mode has a file to edit at all."""
        return type(self).edited is not ModeScreen.edited

    def after_edit(self, path: Path) -> None:
        """Take up what was changed in the editor."""

    def go_back(self) -> bool:
        """esc: undo one step inside the screen; False lets the app go to Home."""
        return False

    def shown(self) -> None:
        """Called every time the mode comes to the front; refresh what may be stale."""

    # -- what every mode has --------------------------------------------------------------------

    @property
    def ftui(self) -> FtuiApp:
        """The app, with its own type."""
        return cast("FtuiApp", self.app)

    @property
    def lab(self) -> Lab:
        """Folders, clock and host."""
        return self.ftui.lab

    @property
    def layout_memory(self) -> Layout:
        """What is remembered between starts."""
        return self.ftui.memory

    def compose(self) -> ComposeResult:
        """Bar, body, filter line, footer."""
        yield ModeBar(self.MODE)
        yield from self.body()
        yield FilterBar()
        yield Footer(compact=True, show_command_palette=False)

    def on_screen_resume(self) -> None:
        """The mode comes to the front."""
        for bar in self.query(ModeBar):
            bar.about = self.about()
        self.shown()

    def refresh_about(self) -> None:
        """Show `about()` again after it changed."""
        for bar in self.query(ModeBar):
            bar.about = self.about()

    def on_filter_bar_changed(self, event: FilterBar.Changed) -> None:
        """Narrow."""
        event.stop()
        self.apply_filter(event.text)

    def open_filter(self) -> None:
        """`/`: open the filter line."""
        if self.can_filter():
            self.query_one(FilterBar).open()
        else:
            self.notify("there is nothing to filter here")

    def close_filter(self) -> bool:
        """Close the filter line; whether it was open."""
        bar = self.query_one(FilterBar)
        if not bar.has_class("-open"):
            return False
        bar.close()
        return True
