"""The keys of the monitor: what is asked of the trainer, and how the charts are looked at."""

from __future__ import annotations

from typing import ClassVar

from textual import work
from textual.binding import Binding, BindingType

from ftlab.run import LIVE, Run
from ftlab_tui.monitor import asking, charts
from ftlab_tui.monitor.charts import SMOOTHING, Smoother
from ftlab_tui.monitor.logpane import LogPane
from ftlab_tui.monitor.plot import Chart
from ftlab_tui.monitor.samplepane import SamplePane
from ftlab_tui.monitor.view import View
from ftlab_tui.reading.live import LiveRun
from ftlab_tui.widgets.confirm import Confirm
from ftlab_tui.widgets.modescreen import ModeScreen

SPLIT = 7  # parts of ten that the charts take
WIDTH = 8  # parts of twelve that the large chart takes


class MonitorActions(ModeScreen):
    """The actions; the screen that derives from it draws."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("s", "stop", "Stop+save", tooltip="save and stop; asks first"),
        Binding("S", "end", "Stop now", show=False, tooltip="end the process; asks first"),
        Binding("k", "ask('save')", "Save", tooltip="save a checkpoint after this step"),
        Binding("v", "ask('eval')", "Eval", tooltip="evaluate after this step"),
        Binding("g", "ask('sample')", "Sample", tooltip="generate samples after this step"),
        Binding("l", "log_axis", "Log axis", tooltip="log or linear axis of the chart"),
        Binding("o", "smooth", "Smooth", show=False, tooltip="smooth curves more, or not at all"),
        Binding("w", "warnings", "Warnings", show=False, tooltip="warnings of the log alone"),
        Binding("p", "prompt", "Prompt", show=False, tooltip="samples of the next prompt"),
        Binding("b", "pane", "Log/samples", show=False, tooltip="log or samples, where one fits"),
        Binding("right_square_bracket", "chart(1)", "Next chart", show=False, key_display="]"),
        Binding("left_square_bracket", "chart(-1)", "Chart before", show=False, key_display="["),
        Binding("plus,equals_sign", "scale(0.5)", "Zoom in", show=False, key_display="+"),
        Binding("minus", "scale(2.0)", "Zoom out", show=False, key_display="-"),
        Binding("0", "whole", "All steps", show=False),
        Binding("ctrl+up", "split(-1)", "Lower charts", show=False),
        Binding("ctrl+down", "split(1)", "Higher charts", show=False),
        Binding("ctrl+left", "width(-1)", "Narrower chart", show=False),
        Binding("ctrl+right", "width(1)", "Wider chart", show=False),
        Binding("full_stop", "other(1)", "Newer run", show=False, key_display="."),
        Binding("comma", "other(-1)", "Older run", show=False, key_display=","),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.live: LiveRun | None = None
        self.view = View()
        self.smoother = Smoother()
        self.asked: dict[int, str] = {}  # number of a request made here -> its name
        self.main = 0  # which chart is the large one
        self._terminated: Run | None = None  # the run that SIGTERM was sent to

    def redraw(self, *, force: bool = False) -> None:
        """Draw what changed."""
        raise NotImplementedError

    def draw_head(self) -> None:
        """Draw the head alone."""
        raise NotImplementedError

    def go_back(self) -> bool:
        """esc: first the crosshair, then the zoom."""
        if self.view.cursor is not None:
            self.view.point(None)
            return True
        if self.view.zoom is not None:
            self.view.whole()
            return True
        return False

    def action_ask(self, name: str) -> None:
        """Save, evaluate or sample now."""
        if self.live is None:
            return
        answer = asking.ask(self.live.run, name)
        if answer.number:
            self.asked[answer.number] = name
        self._tell(answer)

    def _tell(self, answer: asking.Answer) -> None:
        severity = "information" if answer.ok else "warning"
        self.notify(answer.text, severity=severity, markup=False)  # type: ignore[arg-type]
        if self.live is not None:
            self.draw_head()

    @work(exclusive=True, group="stop")
    async def action_stop(self) -> None:
        """Save and stop, once the person agrees."""
        live = self.live
        if live is None:
            return
        if live.state not in LIVE:
            self.notify(f"{live.run.id} is {live.state}: nothing to stop", markup=False)
            return
        if await self.app.push_screen_wait(Confirm(*asking.stop_question(live), yes="Stop")):
            self.action_ask("stop")

    @work(exclusive=True, group="stop")
    async def action_end(self) -> None:
        """SIGTERM, and when that was sent before, SIGKILL; each asked."""
        live = self.live
        if live is None:
            return
        if live.state not in LIVE:
            self.notify(f"{live.run.id} is {live.state}: nothing to end", markup=False)
            return
        kill = self._terminated == live.run
        yes = "Kill" if kill else "End"
        if await self.app.push_screen_wait(Confirm(*asking.end_question(live, kill), yes=yes)):
            answer = asking.end(live.run, kill=kill)
            self._terminated = live.run if answer.ok else None
            self._tell(answer)

    def action_log_axis(self) -> None:
        """Log or linear: the focused chart, else the large one."""
        chart = self.focused if isinstance(self.focused, Chart) else self.query_one("#main", Chart)
        chart.action_log()

    def on_chart_log_changed(self, event: Chart.LogChanged) -> None:
        """Remember it."""
        self.layout_memory.set(f"monitor.log.{event.chart.key}", event.chart.log_axis)

    def action_smooth(self) -> None:
        """The next degree of smoothing."""
        position = SMOOTHING.index(self.smoother.weight)
        self.smoother.set(SMOOTHING[(position + 1) % len(SMOOTHING)])
        self.layout_memory.set("monitor.smoothing", self.smoother.weight)
        self.notify(f"smoothing {self.smoother.weight or 'off'}", timeout=2)
        self.redraw(force=True)

    def action_warnings(self) -> None:
        """Warnings of the log alone, or all of it."""
        self.query_one(LogPane).toggle_warnings()

    def action_split(self, by: int) -> None:
        """Another share of the height for the charts; it is remembered."""
        share = max(1, min(8, self.layout_memory.get("monitor.split", SPLIT) + by))
        self.layout_memory.set("monitor.split", share)
        self.use_split()

    def action_width(self, by: int) -> None:
        """Another share of the width for the large chart; it is remembered."""
        share = max(3, min(11, self.layout_memory.get("monitor.width", WIDTH) + by))
        self.layout_memory.set("monitor.width", share)
        self.use_split()

    def use_split(self) -> None:
        """Give the charts their share of ten parts, and the large one its share of twelve."""
        share = max(1, min(9, self.layout_memory.get("monitor.split", SPLIT)))
        self.query_one("#charts").styles.height = f"{share}fr"
        self.query_one("#below").styles.height = f"{10 - share}fr"
        width = max(3, min(11, self.layout_memory.get("monitor.width", WIDTH)))
        # The large one takes what is left: shown alone, a width of its own would be too much.
        self.query_one("#side").styles.width = f"{100 * (12 - width) / 12:.2f}%"

    def action_prompt(self) -> None:
        """The next prompt."""
        if self.live is not None:
            self.query_one(SamplePane).next(self.live)

    def action_pane(self) -> None:
        """Where there is room for one: log or samples."""
        self.toggle_class("-swap")

    def action_chart(self, direction: int) -> None:
        """Another chart becomes the large one."""
        if self.live is not None:
            count = len(charts.plans(self.live))
            self.main = (self.main + direction) % count
            self.redraw(force=True)

    def action_scale(self, factor: float) -> None:
        """Zoom all charts."""
        self.view.scale(factor)

    def action_whole(self) -> None:
        """All steps in all charts."""
        self.view.cursor = None
        self.view.whole()
