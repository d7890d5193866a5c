"""Runs side by side: their curves in one chart, only the fields that differ, and a verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from ftlab.run import Run
from ftlab_tui.colours import styles
from ftlab_tui.monitor.axis import number
from ftlab_tui.monitor.charts import Smoother
from ftlab_tui.monitor.plot import COLOURS, Chart
from ftlab_tui.monitor.view import Curve, Points, View
from ftlab_tui.reading.live import LiveRun
from ftlab_tui.reading.series import Table
from ftlab_tui.runs.comparing import MEANING, differences, short

MOST = len(COLOURS)  # runs that have a colour of their own
METRICS = ("loss", "eval", "grad_norm", "lr", "rewards/margins", "rewards/accuracies")
SLICE = 0.012


class CompareView(Vertical):
    """Shown instead of the table of runs."""

    DEFAULT_CSS = """
    CompareView {
        #curves { height: 1fr; }
        #verdict { height: auto; max-height: 4; padding: 0 1; }
        #fields { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 1; }
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.runs: list[LiveRun] = []
        self.metric = METRICS[0]
        self.smoothers: list[Smoother] = []
        self.smooth = True
        self.view = View()
        self.text = ""

    def compose(self) -> ComposeResult:
        """Chart, verdict, table."""
        yield Chart("loss", self.view, id="curves")
        yield Static("", id="verdict", markup=False)
        yield DataTable(id="fields", cursor_type="row", zebra_stripes=True)

    def show(self, runs: Sequence[Run]) -> None:
        """Compare these runs."""
        self.runs = [LiveRun(run) for run in runs[:MOST]]
        self.smoothers = [Smoother() for _ in self.runs]
        self.view.zoom = self.view.cursor = None
        self._fields()
        self.query_one("#verdict", Static).update("")
        self._read()

    def tell(self, text: str) -> None:
        """Show a verdict, or why there is none."""
        self.query_one("#verdict", Static).update(Text(text))

    def next_metric(self) -> None:
        """Overlay another metric that some run has."""
        have = [m for m in METRICS if any(self._has(live, m) for live in self.runs)] or ["loss"]
        place = have.index(self.metric) + 1 if self.metric in have else 0
        self.metric = have[place % len(have)]
        self._curves()

    def toggle_smooth(self) -> None:
        """Smoothed curves, or the values themselves."""
        self.smooth = not self.smooth
        self._curves()

    def follow(self) -> None:
        """Take up what the runs wrote since."""
        self._read()

    def _read(self) -> None:
        if not self.is_mounted:
            return
        waiting = [live.poll(SLICE / max(1, len(self.runs))) for live in self.runs]
        if any(waiting):
            self.set_timer(0.001, self._read)
        self._curves()

    def _curves(self) -> None:
        steps = [live.train.steps[-1] for live in self.runs if len(live.train)]
        self.view.extend(1, max(steps, default=1))
        chart = self.query_one("#curves", Chart)
        smoothed = self.smooth and self.metric not in ("eval", "lr")
        chart.title = self.metric + (" (smoothed)" if smoothed else "")
        chart.show(list(self._each_curve(smoothed)))

    def _each_curve(self, smoothed: bool) -> Iterator[Curve]:
        for place, live in enumerate(self.runs):
            if not self._has(live, self.metric):
                continue
            evaluated = self.metric == "eval"
            smoother = self.smoothers[place] if smoothed else None
            yield _curve(live, "loss" if evaluated else self.metric, place, smoother, evaluated)

    def _has(self, live: LiveRun, metric: str) -> bool:
        return "loss" in live.evals.columns if metric == "eval" else metric in live.train.columns

    def _fields(self) -> None:
        table, look = self.query_one("#fields", DataTable), styles(self.app)
        table.clear(columns=True)
        runs = [live.run for live in self.runs]
        table.add_column("field")
        table.add_column("class")
        for place, run in enumerate(runs):
            table.add_column(f"{label(place)} {short(run.id, 24)}")
        found = differences(runs)
        kinds = {"numerics": look["warning"], "bits": look["accent"], "none": look["muted"]}
        for item in found:
            cells = [Text(short(value)) for value in item.values]
            kind = Text(MEANING.get(item.kind, item.kind), kinds.get(item.kind, ""))
            table.add_row(Text(short(item.name, 34)), kind, *cells)
        if not found:
            same = "no field differs" if len(runs) > 1 else "nothing to compare with"
            table.add_row(Text(same), *[Text("") for _ in range(len(runs) + 1)])
        heads = [f"{label(place)} = {run.id}" for place, run in enumerate(runs)]
        rows = [f"{d.name} [{d.kind}]: {' | '.join(map(str, d.values))}" for d in found]
        self.text = "\n".join([*heads, *rows])

    def summary(self) -> str:
        """The newest values of the runs, a line each."""
        lines = []
        for place, live in enumerate(self.runs):
            loss, evaluation = number(live.train.last("loss")), number(live.evals.last("loss"))
            lines.append(f"{label(place)} {live.run.id}: loss {loss}, eval {evaluation}")
        return "\n".join(lines)


def label(place: int) -> str:
    """A run's letter in the comparison."""
    return chr(ord("A") + place)


def _curve(
    live: LiveRun, name: str, place: int, smoother: Smoother | None, evaluated: bool
) -> Curve:
    def table() -> Table:
        source = live.evals if evaluated else live.train
        return smoother.table(source, name) if smoother else source

    def points(low: float, high: float, count: int) -> Points:
        return table().buckets(name, low, high, count)

    def at(step: float) -> tuple[float, float] | None:
        return table().at(name, step)

    return Curve(label(place), points, at, place, marks=evaluated)
