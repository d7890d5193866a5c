"""A chart's drawing: axis and steps around it, a crosshair over it, nothing where nothing is."""

from __future__ import annotations

from textual.app import App, ComposeResult
from waiting import until

from ftlab_tui.monitor.plot import Chart
from ftlab_tui.monitor.view import Curve, Points, View


def line(low: float, high: float, count: int) -> Points:
    return [(step, step / 10, step / 10) for step in range(1, 101)]


class Bare(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.view = View(1, 100)

    def compose(self) -> ComposeResult:
        yield Chart("loss", self.view, id="chart")


def text(chart: Chart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


async def test_drawn_in_every_size() -> None:
    app = Bare()
    async with app.run_test(size=(60, 16)) as pilot:
        chart = app.query_one(Chart)
        assert "no values yet" in "".join(text(chart))
        chart.show([Curve("train", line, lambda step: (step, step / 10))])
        await pilot.pause()
        rows = text(chart)
        assert {len(row) for row in rows} == {chart.size.width}
        assert rows[-1].split() == ["1", "50", "100"]
        assert any("⠀" < character <= "⣿" for character in "".join(rows))
        assert "train 10" in str(chart.border_title)
        for size in ((10, 5), (3, 3), (200, 60), (1, 1)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert all(len(row) == chart.size.width for row in text(chart))


async def test_a_crosshair_where_all_is_border_is_nothing() -> None:
    """A pane of two columns has none left for a drawing, yet its lines are asked for."""
    app = Bare()
    async with app.run_test(size=(60, 16)):
        chart = app.query_one(Chart)
        chart.show([Curve("train", line, lambda step: (step, step / 10))])
        app.view.point(50)
        chart.styles.width = 2
        await until(lambda: chart.size.width == 0)
        chart.redraw()
        assert chart.render_line(0).cell_length == 0
        app.view.point(60)
        assert chart.render_line(0).cell_length == 0


async def test_the_crosshair_is_over_the_same_drawing() -> None:
    app = Bare()
    async with app.run_test(size=(60, 16)) as pilot:
        chart = app.query_one(Chart)
        chart.show([Curve("train", line, lambda step: (step, step / 10))])
        await pilot.pause()
        before = text(chart)
        app.view.point(50)
        after = text(chart)
        changed = [(a, b) for a, b in zip(before, after, strict=True) if a != b]
        assert changed
        for a, b in changed:
            assert [y for x, y in zip(a, b, strict=True) if x != y] == ["│"]
        app.view.point(None)
        assert text(chart) == before
        chart.marker = "ascii"
        chart.redraw()
        assert "*" in "".join(text(chart))


async def test_why_nothing_is_drawn_is_read_whole() -> None:
    app = Bare()
    async with app.run_test(size=(24, 8)):
        chart = app.query_one(Chart)
        chart.empty = "starting: libraries and the model are being loaded"
        assert " ".join(" ".join(text(chart)).split()) == chart.empty
        assert {len(row) for row in text(chart)} == {chart.size.width}
