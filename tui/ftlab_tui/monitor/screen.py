"""The monitor of one run: head, alarms, charts, GPUs, samples, log, and what can be asked of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from rich.text import Text
from textual.containers import Horizontal, Vertical
from textual.css.query import NoMatches
from textual.widget import Widget

from ftlab.errors import FtlabError
from ftlab.run import LIVE, Run
from ftlab_tui.colours import styles
from ftlab_tui.monitor import asking, charts, header, strip
from ftlab_tui.monitor.actions import MonitorActions
from ftlab_tui.monitor.alarms import Alarm, judge
from ftlab_tui.monitor.charts import SMOOTHING, ChartPlan
from ftlab_tui.monitor.logpane import LogPane
from ftlab_tui.monitor.pacing import Pacing
from ftlab_tui.monitor.plot import Chart
from ftlab_tui.monitor.samplepane import SamplePane
from ftlab_tui.reading.gpus import GpuNow, GpuThread, of_run
from ftlab_tui.reading.live import LiveRun
from ftlab_tui.widgets.line import Line

if TYPE_CHECKING:
    from ftlab_tui.reading.speed import Speed

INTERVAL = 0.5  # seconds between two looks at the run
SLICE = 0.012  # seconds of reading between two chances to paint
TOLD = 0.25  # seconds between two words on how far the reading has come
MOST_CHARTS = 6


class MonitorScreen(MonitorActions):
    """Watches one run. Nothing here can hurt the training but what asks first."""

    MODE = "monitor"
    HELP_TEXT = """
Watches one run by reading its directory; closing this screen or the app never touches the training,
and any number of viewers may watch. Requests are carried out by the trainer after its step.
In a chart: left and right move the crosshair, + and - zoom, shift+left and shift+right move along,
0 shows all steps, l switches to a log axis; with the mouse, point and turn the wheel.
ctrl+up and ctrl+down give the charts less or more of the height, ctrl+left and ctrl+right the large
one less or more of the width.
"""
    DEFAULT_CSS = """
    MonitorScreen {
        #head, #alarms, #gpus { height: auto; padding: 0 1; width: 100%; }
        #alarms { display: none; }
        #alarms.-some { display: block; }
        #charts { height: 2fr; }
        #side { width: 1fr; display: none; }
        #main { width: 1fr; }
        #below { height: 1fr; min-height: 5; }
        #samples { width: 1fr; display: none; }
        #log { width: 1fr; }
        &.-normal #side, &.-wide #side { display: block; }
        &.-normal #samples, &.-wide #samples { display: block; }
        &.-short.-normal .-minor, &.-short.-wide .-minor { display: none; }
        &.-narrow.-swap #samples { display: block; }
        &.-narrow.-swap #log { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.speed: Speed | None = None
        self.uuids: list[str] = []
        self.gpus = GpuThread()
        self.alarms: list[Alarm] = []
        self._drawn: tuple[object, ...] = ()
        self._pacing = Pacing()
        self._reading = False
        self._told = 0.0
        self.outline: LiveRun | None = None  # shown while a long history is being read

    # -- the screen ---------------------------------------------------------------------------

    def body(self) -> Iterable[Widget]:
        """Head, charts, GPUs, log and samples."""
        yield Line(id="head")
        yield Line(id="alarms")
        with Horizontal(id="charts"):
            yield Chart("loss", self.view, id="main")
            with Vertical(id="side"):
                for number in range(MOST_CHARTS - 1):
                    chart = Chart("", self.view, id=f"side{number}")
                    chart.display = False
                    yield chart
        yield Line(id="gpus")
        with Horizontal(id="below"):
            yield LogPane(id="log")
            yield SamplePane(id="samples")

    def about(self) -> str:
        """The run's host and folder."""
        return f"{self.live.run.id} · {self.lab.host}" if self.live else self.lab.host

    def on_mount(self) -> None:
        """Take up what was remembered, begin to look."""
        weight = self.layout_memory.get("monitor.smoothing", SMOOTHING[0])
        self.smoother.set(weight if weight in SMOOTHING else SMOOTHING[0])
        self.use_split()
        self.gpus.start()
        self.set_interval(INTERVAL, self._tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.redraw(force=True))
        if self.live is not None:
            self._begin()

    def on_unmount(self) -> None:
        """Stop the side thread."""
        self.gpus.stop()

    def shown(self) -> None:
        """Come to the front: with no run chosen, the newest one."""
        if self.live is None:
            runs = self._runs()
            live = [run for run in runs if run.liveness() in LIVE]
            if runs:
                self.show_run((live or runs)[-1])
        self._tick()

    def show_run(self, run: Run) -> None:
        """Watch this run from now on."""
        if self.live is not None and self.live.run == run:
            return
        self.live = LiveRun(run)
        self.asked.clear()
        self.view.zoom = self.view.cursor = None
        self.main = 0
        if self.is_mounted:
            self._begin()

    def _begin(self) -> None:
        live = self.live
        if live is None:
            return
        self.speed, self.uuids = None, []
        self.set_timer(0.1, partial(self._take_plan, live))
        self.query_one(LogPane).open(live.run.log_path)
        self.refresh_about()
        self._drawn = ()
        self._pacing.reset()
        live.look()
        self.outline = live.outline()
        if self.outline is not None:
            self.redraw(force=True)
        self._read()

    def _take_plan(self, live: LiveRun) -> None:
        """What the plan tells, after the first paint: its types are many, and so are its lines."""
        if live is not self.live:
            return
        from ftlab_tui.reading import speed

        plan = speed.read_plan(live.run)
        self.speed = speed.of(plan)
        self.uuids = [card.uuid for card in speed.cards_of(plan)] if plan is not None else []
        self.redraw()

    # -- looking ------------------------------------------------------------------------------

    @property
    def seen(self) -> LiveRun | None:
        """The run as far as it is known: its outline until all of it is read."""
        return self.outline or self.live

    def _tick(self) -> None:
        """Every half second while this screen is in front."""
        if self.live is None:
            self.redraw()
            return
        if not self.is_current or self._reading:
            return
        self.live.look()
        self._read()

    def _read(self) -> None:
        """Read a slice; the screen is painted and keys are taken between two of them."""
        live = self.live
        if live is None or not self.is_mounted:
            self._reading = False
            return
        self._reading = live.poll(SLICE)
        if self._reading:
            if time.monotonic() - self._told > TOLD:
                self._told = time.monotonic()
                self.draw_head()
            self.set_timer(0.001, self._read)
        else:
            known, self.outline = self.outline, None
            self.redraw(force=known is not None)

    def redraw(self, *, force: bool = False) -> None:
        """Draw what changed; the charts too where they must be drawn anew."""
        live = self.seen
        try:
            self.draw_head()
            if live is None:
                return
            self.query_one(LogPane).update()
            self.query_one(SamplePane).update(live)
        except NoMatches:  # the screen is being taken down
            return
        self._gpu_strip()
        plans = charts.plans(live)
        drawn = live, len(plans), self.main, len(live.train), live.train.last("loss"), \
            len(live.evals), self.smoother.weight  # fmt: skip
        if self._drawn[3:4] == (0,):
            self._pacing.reset()  # the first values are shown at once
        if force or (drawn != self._drawn and self._pacing.due()):
            first, self._drawn = not self._drawn, drawn
            if first or force:
                self._charts(plans, at_once=live is self.outline)
            else:  # after head and log are painted, so that a key never waits for all of it
                self.set_timer(0.03, partial(self._charts, plans))

    def draw_head(self) -> None:
        """State, figures, alarms."""
        look, width = styles(self.app), max(10, self.size.width - 2)
        head = self.query_one("#head", Line)
        live = self.seen
        if live is None:
            head.show(Text("no runs yet: 2 sets one up", look["muted"]))
            return
        now = self.lab.now()
        lines = [
            header.progress(live, width, look, now),
            header.figures(live, self.speed, width, look),
        ]
        head.show(Text("\n").join(lines))
        self._alarm_line(width)

    def _alarm_line(self, width: int) -> None:
        live, look = self.seen, styles(self.app)
        if live is None:
            return
        self.alarms = judge(live, self._gpus(), self._disk_free())
        lines = [
            Text(f"{'✘' if a.severe else '▲'} {a.text}", look["error" if a.severe else "warning"])
            for a in self.alarms[:3]
        ]
        lines += [Text(f"… {words}", look["accent"]) for words in asking.pending(self.asked, live)]
        lines += [Text(f"i {words}", look["muted"]) for words in live.oddities.describe()]
        for line in lines:
            line.truncate(width, overflow="ellipsis")
        most = 2 if self.size.height < 30 else 5
        widget = self.query_one("#alarms", Line)
        widget.set_class(bool(lines), "-some")
        widget.show(Text("\n").join(lines[:most]))

    def _gpus(self) -> tuple[GpuNow, ...]:
        live = self.live
        if live is None or live.state not in LIVE or not self.uuids or not self._is_here(live):
            return ()
        return of_run(self.gpus.latest, self.uuids)

    def _gpu_strip(self) -> None:
        live, width = self.seen, max(10, self.size.width - 2)
        if live is None:
            return
        gpus = of_run(self.gpus.latest, self.uuids) if self._is_here(live) else ()
        reason = self.gpus.latest.reason
        if not self._is_here(live):
            reason = f"the run is on {live.status.host}; its GPUs are read there only"
        text = strip.lines(gpus, reason, live.last_step, width, styles(self.app))
        self.query_one("#gpus", Line).show(text)

    def _is_here(self, live: LiveRun) -> bool:
        return live.status.host in ("", self.lab.host)

    def _disk_free(self) -> int | None:
        try:
            return shutil.disk_usage(self.live.run.path).free if self.live else None
        except OSError:
            return None

    def _charts(self, plans: Iterable[ChartPlan], *, at_once: bool = False) -> None:
        live, made = self.seen, list(plans)
        if live is None:
            return
        if len(live.train):
            self.view.extend(min(live.train.steps[0], 1), live.train.steps[-1])
        order = [(self.main + k) % len(made) for k in range(len(made))]
        try:
            main = self.query_one("#main", Chart)
            sides = [self.query_one(f"#side{k}", Chart) for k in range(MOST_CHARTS - 1)]
        except NoMatches:  # the screen is being put together, or taken down: at the next look
            self._drawn = ()
            self._pacing.reset()
            return
        self._chart(main, made[order[0]], live)
        for number, chart in enumerate(sides):
            chart.display = number + 1 < len(made)
            # A preference run has five side charts: on a low screen the last ones go.
            chart.set_class(number >= 2, "-minor")
            plan = made[order[number + 1]] if chart.display else None
            if plan is not None and at_once:
                self._chart(chart, plan, live)
            elif plan is not None:
                # One chart at a time, so that a key never waits for all of them.
                self.set_timer(0.06 * (number + 1), partial(self._chart, chart, plan, live))

    def _chart(self, chart: Chart, plan: ChartPlan, live: LiveRun) -> None:
        if live is not self.seen:  # another run was chosen meanwhile
            return
        chart.title = plan.title
        chart.log_axis = self.layout_memory.get(f"monitor.log.{plan.key}", plan.log)
        chart.empty = header.waiting_for(live) if not live.train.columns else "no values"
        chart.key = plan.key
        chart.show(charts.curves(plan, live, self.smoother))

    # -- keys ---------------------------------------------------------------------------------

    def apply_filter(self, text: str) -> None:
        """Lines of the log that contain the text."""
        self.query_one(LogPane).search(text)

    def can_filter(self) -> bool:
        """There is a log when there is a run."""
        return self.live is not None

    def copied(self) -> tuple[str, str] | None:
        """The focused pane's text, or what the head says."""
        if self.live is None:
            return None
        if isinstance(self.focused, LogPane):
            return f"log-{self.live.run.id}", "\n".join(self.focused.lines)
        if isinstance(self.focused, SamplePane):
            return f"sample-{self.live.run.id}", self.focused.text
        look: dict[str, str] = {}
        lines = [
            header.progress(self.live, 400, look, self.lab.now()).plain,
            header.figures(self.live, self.speed, 400, look).plain,
            *(alarm.text for alarm in self.alarms),
            str(self.live.run.path),
        ]
        return f"run-{self.live.run.id}", "\n".join(lines)

    def action_other(self, direction: int) -> None:
        """The run made before or after this one."""
        runs = self._runs()
        if self.live is not None and self.live.run in runs:
            place = runs.index(self.live.run) + direction
            if 0 <= place < len(runs):
                self.show_run(runs[place])
                return
        self.notify("there is no other run there", timeout=2)

    def _runs(self) -> list[Run]:
        try:
            return Run.all(self.lab.runs_dir)
        except FtlabError as error:
            self.notify(str(error), severity="warning", markup=False)
            return []
