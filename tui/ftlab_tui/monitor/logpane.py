"""The end of the trainer's log: follows, filters, shows warnings alone, goes back on demand."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Log

from ftlab_tui.reading.logtail import LogTail, is_warning

_SHOWN = 2000  # lines put into the widget at most when nothing is asked for


class LogPane(Log, can_focus=True):
    """Lines of log.txt. Going up beyond the first one reads earlier ones."""

    ALLOW_MAXIMIZE = True
    DEFAULT_CSS = """
    LogPane {
        border: round $panel;
        border-title-color: $text;
        border-subtitle-color: $text-muted;
        background: $background;
        scrollbar-size-vertical: 1;
        scrollbar-size-horizontal: 0;
        overflow-x: hidden;
        &:focus { border: round $accent; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "earlier", "Up", show=False),
        Binding("pageup", "earlier_page", "Page up", show=False),
        Binding("home", "top", "First line", show=False),
        Binding("end", "follow", "Follow", show=False),
    ]

    def __init__(self, id: str | None = None) -> None:
        super().__init__(highlight=False, auto_scroll=True, id=id)
        self.tail: LogTail | None = None
        self.wanted = ""
        self.warnings_only = False
        self._titled = "", ""
        self._at_end = True
        self._written = 0  # lines of the tail that are in the widget or were left out

    def open(self, path: Path) -> None:
        """Show another file."""
        self.tail = LogTail(path)
        self.tail.poll()
        self._rewrite()

    def update(self) -> None:
        """Take up what was written since."""
        if self.tail is None:
            return
        before = self.tail.lines, len(self.tail.lines)
        if self.tail.poll():
            same = self.tail.lines is before[0] and len(self.tail.lines) >= before[1]
            if same and self._written == before[1]:
                fresh = [line for line in self.tail.lines[before[1] :] if self._fits(line)]
                self._written = len(self.tail.lines)
                if fresh:
                    self.write_lines(fresh)
            else:
                self._rewrite()
        self._titles()

    def on_resize(self) -> None:
        """Who followed the end goes on following it when the pane becomes lower."""
        if self._at_end:
            self.call_after_refresh(self.scroll_end, animate=False)

    def search(self, text: str) -> None:
        """Show lines that contain `text` alone, whatever its case."""
        self.wanted = text.lower()
        self._rewrite()

    def toggle_warnings(self) -> None:
        """Show lines that speak of warnings or errors alone, or all."""
        self.warnings_only = not self.warnings_only
        self._rewrite()

    def action_earlier(self) -> None:
        """One line up; at the first one, earlier ones are read."""
        if self.scroll_y <= 0:
            self._older()
        self.scroll_up(animate=False)

    def action_earlier_page(self) -> None:
        """One page up; at the first line, earlier ones are read."""
        if self.scroll_y <= 0:
            self._older()
        self.scroll_page_up(animate=False)

    def action_top(self) -> None:
        """Go to the first line that is read; at it, earlier ones are read."""
        if self.scroll_y <= 0:
            self._older()
        self.scroll_home(animate=False)

    def action_follow(self) -> None:
        """Go to the end and stay there."""
        self.scroll_end(animate=False)

    def _older(self) -> None:
        if self.tail is None or self.tail.at_start:
            return
        before = self.line_count
        self.tail.older(500, self._fits)
        self._rewrite(all_of_it=True)
        self.scroll_to(y=max(0, self.line_count - before), animate=False)

    def _rewrite(self, *, all_of_it: bool = False) -> None:
        if self.tail is None:
            return
        filtered = bool(self.wanted) or self.warnings_only
        lines = self.tail.lines
        if filtered and not self.tail.at_start:
            found = sum(1 for line in lines if self._fits(line))
            if found < 50:
                self.tail.older(50 - found, self._fits, most=16)
                lines = self.tail.lines
        shown = [line for line in lines if self._fits(line)]
        self.clear()
        self.write_lines(shown if all_of_it else shown[-_SHOWN:])
        self._written = len(lines)
        self._titles()

    def _fits(self, line: str) -> bool:
        if self.warnings_only and not is_warning(line):
            return False
        return not self.wanted or self.wanted in line.lower()

    def _titles(self) -> None:
        tail, self._at_end = self.tail, self.is_vertical_scroll_end
        parts = ["log"]
        if self.warnings_only:
            parts.append("warnings only")
        if self.wanted:
            parts.append(f"/{self.wanted}")
        title = " · ".join(part.replace("[", r"\[") for part in parts)
        if tail is None:
            below = ""
        elif tail.fault:
            below = tail.fault.replace("[", r"\[")
        elif not tail.size:
            below = "nothing written yet"
        else:
            where = "" if self._at_end else " · end: follow"
            more = "" if tail.at_start else " · earlier lines above"
            below = f"{tail.size / 2**20:,.1f} MiB{more}{where}"
        if (title, below) != self._titled:  # setting a title paints the whole pane, changed or not
            self._titled = title, below
            self.border_title, self.border_subtitle = title, below
