"""A chart for the terminal: curves over steps with axes, zoom, log scale and a crosshair.

Charts that share a `View` zoom and point together. Drawing looks at one bucket per column, so its
cost does not depend on the length of the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.markup import escape
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from ftlab_tui.colours import styles
from ftlab_tui.monitor.axis import Axis, label, number
from ftlab_tui.monitor.canvas import NO_COLOUR, Canvas
from ftlab_tui.monitor.view import Curve, Points, View

COLOURS = ("primary", "accent", "secondary", "error", "warning", "success")  # the theme's


class Chart(Widget, can_focus=True):
    """Curves over steps. The border carries the title, the legend, and values at the crosshair."""

    ALLOW_MAXIMIZE = True
    # One only: Textual works out the style of each anew whenever a class of the screen changes.
    COMPONENT_CLASSES: ClassVar[set[str]] = {"chart--axis"}
    DEFAULT_CSS = """
    Chart {
        border: round $panel-lighten-2;
        border-title-color: $text;
        border-subtitle-color: $text-muted;
        min-height: 5;
        height: 1fr;
        width: 1fr;
        &:focus { border: round $accent; }
        & > .chart--axis { color: $text-muted; }
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "cursor(-1)", "Crosshair left", show=False),
        Binding("right", "cursor(1)", "Crosshair right", show=False),
        Binding("shift+left", "pan(-0.5)", "Move left", show=False),
        Binding("shift+right", "pan(0.5)", "Move right", show=False),
        Binding("plus,equals_sign", "scale(0.5)", "Zoom in", show=False),
        Binding("minus", "scale(2.0)", "Zoom out", show=False),
        Binding("0", "whole", "All steps", show=False),
        Binding("l", "log", "Log axis", show=False),
    ]

    class LogChanged(Message):
        """The person switched between a linear and a log axis."""

        def __init__(self, chart: Chart) -> None:
            super().__init__()
            self.chart = chart

    def __init__(self, title: str, view: View, *, log: bool = False, id: str | None = None) -> None:
        super().__init__(id=id)
        self.title, self.view, self.log_axis = title, view, log
        self.curves: Sequence[Curve] = ()
        self.empty = "no values yet"
        self.key = title  # names the chart in what is remembered
        self.marker = "braille"
        self._strips: list[Strip] | None = None  # as shown
        self._base: list[Strip] = []  # without the crosshair
        self._canvas: Canvas | None = None
        self._styled: tuple[object, ...] = ()
        self._styles: list[Style] = []  # of each colour, and of nothing
        self._quiet = Style()
        self._plot = (0, 1)  # first column of the plot, columns
        view.charts.append(self)

    # -- what it shows ------------------------------------------------------------------------

    def show(self, curves: Sequence[Curve]) -> None:
        """Draw these curves from now on."""
        self.curves = curves
        self.redraw()

    def redraw(self) -> None:
        """Draw anew before the next paint."""
        self._strips = None
        self.refresh()

    def move_cursor(self) -> None:
        """Put the crosshair elsewhere; the drawing under it is kept."""
        if self._strips is not None:
            self._strips = self._with_cursor(self._base)
        self._titles()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """A line of the drawing, which is made when it is first asked for."""
        if self._strips is None or len(self._strips) != self.size.height:
            self._take_styles()
            self._base = self._draw(self.size.width, self.size.height)
            self._strips = self._with_cursor(self._base)
        return self._strips[y] if y < len(self._strips) else Strip.blank(self.size.width)

    def _take_styles(self) -> None:
        """The theme's styles; asking for them at every drawing would cost as much as drawing."""
        key = self.app.theme, self.app.ansi_color, self.rich_style
        if key != self._styled:
            self._styled, base = key, self.rich_style
            look = styles(self.app)
            self._styles = [*(base + look[name] for name in COLOURS), base]
            self._quiet = base + self.get_component_rich_style("chart--axis")

    def _draw(self, width: int, height: int) -> list[Strip]:
        low, high = self.view.shown
        rough = max(8, width - 8)
        drawn = [(curve, curve.points(low, high, rough)) for curve in self.curves]
        values = (value for _, points in drawn for point in points for value in point[1:])
        axis = Axis.around(values, log=self.log_axis)
        self._titles()
        self._canvas = None
        if width < 1 or not any(points for _, points in drawn):  # all of it border, or no values
            return self._blank(width, height)
        rows = max(1, height - 1) if height > 2 else height
        ticks = axis.ticks(max(1, rows // 2))
        gutter = max((len(label(tick)) for tick in ticks), default=0) + 1
        columns = width - gutter
        if columns < 8:
            gutter, columns = 0, width
        self._plot = gutter, columns
        canvas = Canvas(columns, rows, self.marker)
        for curve, points in drawn:
            _trace(canvas, axis, curve, points, low, high)
        self._canvas = canvas
        strips = self._rows(canvas, axis, ticks, gutter)
        if height > rows:
            strips.append(self._steps(low, high, gutter, columns))
        return strips

    def _rows(self, canvas: Canvas, axis: Axis, ticks: Sequence[float], gutter: int) -> list[Strip]:
        quiet = self._quiet
        labels = {_row_of(axis.share(tick), canvas.rows): label(tick) for tick in ticks}
        strips = []
        for row in range(canvas.rows):
            segments = []
            if gutter:
                segments.append(Segment(f"{labels.get(row, ''):>{gutter - 1}} ", quiet))
            segments.extend(_runs(canvas.row(row), self._styles))
            strips.append(Strip(segments, gutter + canvas.columns))
        return strips

    def _with_cursor(self, strips: list[Strip]) -> list[Strip]:
        """The drawing with an upright line where nothing else is."""
        canvas = self._canvas
        column = self._cursor_column(canvas.columns) if canvas is not None else None
        if canvas is None or column is None:
            return strips
        line = Strip([Segment("|" if self.marker == "ascii" else "│", self._quiet)], 1)
        place = self._plot[0] + column
        made = list(strips)
        for row in range(min(canvas.rows, len(made))):
            if canvas.is_blank(column, row):
                whole = made[row]
                right = whole.crop(place + 1, whole.cell_length)
                made[row] = Strip.join([whole.crop(0, place), line, right])
        return made

    def _steps(self, low: float, high: float, gutter: int, columns: int) -> Strip:
        """The line of step numbers under the plot."""
        left, right = label(round(low)), label(round(high))
        middle = label(round((low + high) / 2))
        text = left + " " * (columns - len(left) - len(right)) + right
        start = (columns - len(middle)) // 2
        if columns > len(left) + len(middle) + len(right) + 6:
            text = text[:start] + middle + text[start + len(middle) :]
        text = (" " * gutter + text)[: gutter + columns].ljust(gutter + columns)
        return Strip([Segment(text, self._quiet)], gutter + columns)

    def _blank(self, width: int, height: int) -> list[Strip]:
        strips = [Strip.blank(width, self._styles[-1]) for _ in range(height)]
        lines = wrap(self.empty, width)[:height] if width > 0 else []
        first = height // 2 - len(lines) // 2
        for row, text in enumerate(lines, first):
            strips[row] = Strip([Segment(text.center(width), self._quiet)], width)
        return strips

    def _titles(self) -> None:
        """Title and legend above; below, the values at the crosshair or the newest ones."""
        step = self.view.cursor
        room = max(4, self.size.width - 4)
        title = f"{self.title}{' · log' if self.log_axis else ''}"
        parts = []
        for curve in self.curves:
            found = curve.at(self.view.last if step is None else step)
            if found is not None:
                parts.append((curve, number(found[1])))
        shown = [f"[{_css(c)}]{escape(c.name)} {value}[/]" for c, value in parts]
        length = len(title) + sum(len(c.name) + len(v) + 3 for c, v in parts)
        if length > room:
            shown = [f"[{_css(c)}]{value}[/]" for c, value in parts]
            length = len(title) + sum(len(v) + 3 for _, v in parts)
        pieces = [escape(title), *(shown if length <= room else [])]
        self.border_title = " · ".join(pieces)
        self.border_subtitle = "" if step is None else f"step {step:.0f}"

    def _cursor_column(self, columns: int) -> int | None:
        low, high = self.view.shown
        step = self.view.cursor
        if step is None or not low <= step <= high or high <= low:
            return None
        return min(columns - 1, int((step - low) / (high - low) * (columns - 1) + 0.5))

    # -- what the person does -----------------------------------------------------------------

    def action_cursor(self, direction: int) -> None:
        """Move the crosshair by one column; it appears at the end."""
        low, high = self.view.shown
        columns = max(2, self._plot[1])
        step = self.view.cursor
        if step is None or not low <= step <= high:
            self.view.point(high)
            return
        moved = step + direction * (high - low) / (columns - 1)
        self.view.point(max(low, min(high, moved)))

    def action_pan(self, share: float) -> None:
        """Move along the steps."""
        self.view.pan(share)

    def action_scale(self, factor: float) -> None:
        """Zoom."""
        self.view.scale(factor)

    def action_whole(self) -> None:
        """All steps, no crosshair."""
        self.view.cursor = None
        self.view.whole()

    def action_log(self) -> None:
        """Switch between a linear and a log axis."""
        self.log_axis = not self.log_axis
        self.redraw()
        self.post_message(self.LogChanged(self))

    def on_mouse_move(self, event: events.MouseMove) -> None:
        """The crosshair follows the mouse."""
        low, high = self.view.shown
        gutter, columns = self._plot
        column = event.x - gutter - self.gutter.left
        if 0 <= column < columns and columns > 1:
            self.view.point(low + column / (columns - 1) * (high - low))

    def on_leave(self, event: events.Leave) -> None:
        """The crosshair goes with the mouse."""
        self.view.point(None)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Zoom in."""
        event.stop()
        self.view.scale(0.8)

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Zoom out."""
        event.stop()
        self.view.scale(1.25)

    def on_resize(self, event: events.Resize) -> None:
        """Draw for the new size."""
        self._strips = None

    def on_unmount(self) -> None:
        """Leave the view."""
        if self in self.view.charts:
            self.view.charts.remove(self)


def _trace(
    canvas: Canvas, axis: Axis, curve: Curve, points: Points, low: float, high: float
) -> None:
    """Put a curve onto the canvas; a value that has no place leaves a gap."""
    stretch: list[tuple[int, int, int]] = []
    colour = curve.colour % len(COLOURS)
    for step, least, greatest in points:
        bottom, top = axis.share(least), axis.share(greatest)
        if bottom is None and top is not None and axis.log:
            bottom = top if least == least else None
        if bottom is None or top is None:
            canvas.curve(stretch, colour)
            stretch = []
            continue
        x = int((step - low) / (high - low) * (canvas.width - 1) + 0.5)
        upper = int((1 - top) * (canvas.height - 1) + 0.5)
        lower = int((1 - bottom) * (canvas.height - 1) + 0.5)
        stretch.append((x, upper, lower))
        if curve.marks:
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                canvas.dot(x - dx, upper - dy, colour)
    canvas.curve(stretch, colour)


def _runs(cells: Sequence[tuple[str, int]], styles: Sequence[Style]) -> list[Segment]:
    """Segments of cells that share a colour; the last style is that of cells without a dot."""
    segments: list[Segment] = []
    text, current = "", NO_COLOUR
    for character, colour in [*cells, ("", -2)]:
        if colour != current:
            if text:
                segments.append(Segment(text, styles[current]))
            text, current = "", colour
        text += character
    return segments


def _css(curve: Curve) -> str:
    return f"${COLOURS[curve.colour % len(COLOURS)]}"


def _row_of(share: float | None, rows: int) -> int:
    return -1 if share is None else int((1 - share) * (rows - 1) + 0.5)
