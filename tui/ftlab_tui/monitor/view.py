"""What the charts of a screen look at together: curves, the steps that are shown, a crosshair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

Points = Sequence[tuple[float, float, float]]  # (step, least, greatest)
_LEAST_SPAN = 4.0  # steps that a zoom shows at least


class Follower(Protocol):
    """A chart that shows a view."""

    def redraw(self) -> None:
        """The steps that are shown have changed."""

    def move_cursor(self) -> None:
        """The crosshair has moved."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart."""

    name: str
    points: Callable[[float, float, int], Points]  # (from step, to step, columns)
    at: Callable[[float], tuple[float, float] | None]  # step -> nearest (step, value)
    colour: int = 0  # index into COLOURS
    marks: bool = False  # few values: drawn as dots that are joined


@dataclass(slots=True)
class View:
    """What the charts of a screen look at: all steps that there are, or a part; and a crosshair."""

    first: float = 0.0
    last: float = 1.0
    zoom: tuple[float, float] | None = None
    cursor: float | None = None
    charts: list[Follower] = field(default_factory=list)

    @property
    def shown(self) -> tuple[float, float]:
        """First and last step that is shown."""
        return self.zoom or (self.first, max(self.last, self.first + 1))

    def extend(self, first: float, last: float) -> None:
        """Say which steps there are."""
        self.first, self.last = first, last

    def scale(self, factor: float) -> None:
        """Show `factor` times as many steps, around the crosshair or else at the end."""
        low, high = self.shown
        centre = self.cursor if self.cursor is not None and low <= self.cursor <= high else high
        span = max(_LEAST_SPAN, (high - low) * factor)
        if span >= self.last - self.first:
            self.zoom = None
        else:
            share = (centre - low) / (high - low)
            self._place(centre - share * span, span)
        self.refresh()

    def pan(self, share: float) -> None:
        """Move what is shown by a share of its width."""
        if self.zoom is not None:
            low, high = self.zoom
            self._place(low + share * (high - low), high - low)
            self.refresh()

    def whole(self) -> None:
        """Show everything."""
        self.zoom = None
        self.refresh()

    def point(self, step: float | None) -> None:
        """Move the crosshair of every chart."""
        self.cursor = step
        for chart in self.charts:
            chart.move_cursor()

    def refresh(self) -> None:
        """Redraw every chart."""
        for chart in self.charts:
            chart.redraw()

    def _place(self, low: float, span: float) -> None:
        low = max(self.first, min(low, self.last - span))
        self.zoom = low, low + span
