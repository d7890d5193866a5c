"""What charts look at together: zoom around the crosshair, bounds, and who is told."""

from __future__ import annotations

from ftlab_tui.monitor.view import View


class Told:
    def __init__(self) -> None:
        self.calls: list[str] = []

    def redraw(self) -> None:
        self.calls.append("redraw")

    def move_cursor(self) -> None:
        self.calls.append("cursor")


def test_zoom_stays_inside_and_around_the_crosshair() -> None:
    view = View()
    view.extend(1, 101)
    view.scale(0.5)
    assert view.shown == (51, 101)  # without a crosshair, at the end
    view.point(60)
    view.scale(0.5)
    low, high = view.shown
    assert low <= 60 <= high
    assert high - low == 25
    view.pan(-100)
    assert view.shown == (1, 26)
    view.pan(100)
    assert view.shown == (76, 101)
    view.scale(100)
    assert view.zoom is None
    for _ in range(50):
        view.scale(0.5)
    assert view.shown[1] - view.shown[0] == 4


def test_every_chart_is_told() -> None:
    view, one, two = View(), Told(), Told()
    view.charts += [one, two]
    view.point(3)
    view.whole()
    view.pan(1)  # nothing is zoomed: nothing moves
    assert one.calls == two.calls == ["cursor", "redraw"]
    assert view.shown == (0, 1)
