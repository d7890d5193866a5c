"""The table of runs, with filter, sort and marks; and the comparison of those that are marked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual import work
from textual.binding import Binding, BindingType
from textual.coordinate import Coordinate
from textual.widget import Widget
from textual.widgets import DataTable, Static

from ftlab.commands.runs import age
from ftlab.errors import FtlabError
from ftlab.run import Run
from ftlab_tui.colours import styles
from ftlab_tui.monitor.axis import number
from ftlab_tui.monitor.header import Styles, sign
from ftlab_tui.monitor.plot import Chart
from ftlab_tui.names import short
from ftlab_tui.runs import commands, rows
from ftlab_tui.runs.actions import RunActions
from ftlab_tui.runs.compareview import MOST, CompareView
from ftlab_tui.runs.rows import SORTS, Row

INTERVAL = 2.0
# Column, width, and the screen's width from which on it is shown.
COLUMNS = (
    (" ", 1, 0), ("run", 34, 0), ("state", 10, 0), ("step", 11, 0), ("loss", 8, 0),
    ("curve", 16, 100), ("eval", 8, 110), ("method", 6, 120), ("model", 22, 190),
    ("tok/s", 8, 170), ("age", 6, 90), ("size", 9, 130), ("tags", 18, 150),
)  # fmt: skip


class RunsScreen(RunActions):
    """Every run in the folder."""

    MODE = "runs"
    HELP_TEXT = """
Every run in the folder of runs. Enter watches one. Space marks; c compares what is marked, or this
run with the newest other one: curves in one chart and only the fields that differ.
The filter takes several words; #word is a tag, !word leaves out. Deleted runs go to a trash.
"""
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "watch", "Watch", show=False),
        Binding("space", "mark", "Mark", tooltip="mark for compare and delete"),
        Binding("c", "compare", "Compare", tooltip="curves and fields of the marked runs"),
        Binding("r", "resume", "Resume", tooltip="go on with it; says what is restored"),
        Binding("n", "clone", "Clone", tooltip="a new run from its config"),
        Binding("d", "delete", "Delete", tooltip="into the trash; asks first"),
        Binding("o", "sort", "Sort", show=False, tooltip="sort by the next column"),
        Binding("m", "notes", "Notes", show=False, tooltip="tags and a note"),
        Binding("u", "undo", "Undelete", show=False, tooltip="bring the last deleted run back"),
        Binding("X", "empty", "Empty trash", show=False, tooltip="for good; asks first"),
        Binding("x", "export", "Export", show=False, tooltip="through ftrun export"),
        Binding("p", "reproduce", "Reproduce", show=False, tooltip="through ftrun reproduce"),
        Binding("right_square_bracket", "metric", "Next curve", show=False, key_display="]"),
        Binding("l", "log_axis", "Log axis", show=False, tooltip="in the comparison"),
        Binding("w", "smooth", "Smooth", show=False, tooltip="in the comparison"),
    ]
    DEFAULT_CSS = """
    RunsScreen {
        #table { height: 1fr; scrollbar-size-vertical: 1; scrollbar-size-horizontal: 0; }
        #detail { height: 2; padding: 0 1; background: $panel; }
        #compare { display: none; height: 1fr; }
        &.-comparing #compare { display: block; }
        &.-comparing #table { display: none; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Row] = []
        self.listed: list[Row] = []
        self.marks: set[str] = set()
        self.wanted = ""
        self.sort = SORTS[0]
        self.fault = ""
        self._cache: dict[str, tuple[object, Row]] = {}
        self._columns: list[str] = []
        self._loading = True

    # -- the screen ---------------------------------------------------------------------------

    def body(self) -> Iterable[Widget]:
        """Table or comparison, and what there is to say about the run under the cursor."""
        yield DataTable(id="table", cursor_type="row", cell_padding=1)
        yield CompareView(id="compare")
        yield Static(id="detail", markup=False)

    def about(self) -> str:
        """The folder and how many runs are in it."""
        count = len(self.rows)
        return f"{count} run{'' if count == 1 else 's'} in {self.lab.runs_dir}"

    def on_mount(self) -> None:
        """Begin to read."""
        chosen = self.layout_memory.get("runs.sort", SORTS[0])
        self.sort = chosen if chosen in SORTS else SORTS[0]
        self.set_interval(INTERVAL, self._tick)
        self.reload()

    def shown(self) -> None:
        """Read the folder anew."""
        self.reload()
        if not self.has_class("-comparing"):
            self.query_one("#table").focus()

    def on_resize(self) -> None:
        """Other columns fit."""
        self._columns = []
        self._fill()

    def _tick(self) -> None:
        if self.is_current:
            self.reload()
            if self.has_class("-comparing"):
                self.query_one(CompareView).follow()

    @work(exclusive=True, group="rows")
    async def reload(self) -> None:  # type: ignore[override]
        """Read the folder anew; a run that did not change is not read again."""
        try:
            found, self.fault = await asyncio.to_thread(self._read), ""
        except FtlabError as error:
            found, self.fault = [], str(error)
        changed = found != self.rows or self._loading
        self.rows, self._loading = found, False
        if changed and self.is_mounted:
            self.refresh_about()
            self._fill()

    def _read(self) -> list[Row]:
        made, cache = [], {}
        for run in Run.all(self.lab.runs_dir):
            key = rows.stamp(run), run.liveness()
            known = self._cache.get(run.id)
            row = known[1] if known is not None and known[0] == key else rows.read(run)
            cache[run.id] = key, row
            made.append(row)
        self._cache = dict(cache)
        return made

    def _fill(self) -> None:
        """Put the rows into the table, the cursor on the run where it was."""
        table = self.query_one("#table", DataTable)
        before = self.chosen()
        width = self.size.width
        shown = [(name, size) for name, size, least in COLUMNS if width >= least]
        # The run's name takes what the others leave, within reason.
        rest = width - sum(size + 2 for name, size in shown if name != "run") - 5
        if [name for name, _ in shown] != self._columns:
            self._columns = [name for name, _ in shown]
            table.clear(columns=True)
            for name, size in shown:
                wide = max(12, min(44, rest)) if name == "run" else size
                table.add_column(name, key=name, width=wide)
        else:
            table.clear()
        self.listed = rows.order([r for r in self.rows if rows.matches(r, self.wanted)], self.sort)
        look, now = styles(self.app), self.lab.now()
        for row in self.listed:
            cells = _cells(row, row.run.id in self.marks, look, now)
            table.add_row(*(cells[name] for name in self._columns), key=row.run.id)
        ids = [row.run.id for row in self.listed]
        if before is not None and before.id in ids:
            table.cursor_coordinate = Coordinate(ids.index(before.id), 0)
        self._detail()

    def _detail(self) -> None:
        row = self._row()
        look = styles(self.app)
        text = Text(no_wrap=True, overflow="ellipsis")
        if row is not None:
            text.append(f"{row.method} of {row.model} on {row.data}")
            if row.tags:
                text.append("  " + " ".join(f"#{tag}" for tag in row.tags), look["accent"])
            text.append(f"\n{row.note or row.message or short(row.run.path)}", look["muted"])
        elif self._loading:
            text.append("reading the runs ...", look["muted"])
        elif self.fault:
            text.append(self.fault, look["error"])
        elif self.rows:
            text.append(f"no run fits /{self.wanted}", look["muted"])
        else:
            text.append(f"no runs in {self.lab.runs_dir} yet: 2 sets one up", look["muted"])
        self.query_one("#detail", Static).update(text)

    # -- what is meant ------------------------------------------------------------------------

    def _row(self) -> Row | None:
        table = self.query_one("#table", DataTable)
        place = table.cursor_row
        return self.listed[place] if 0 <= place < len(self.listed) else None

    def chosen(self) -> Run | None:
        """The run under the cursor."""
        row = self._row()
        return row.run if row else None

    def marked(self) -> list[Run]:
        """The marked runs that are shown, or the one under the cursor."""
        found = [row.run for row in self.listed if row.run.id in self.marks]
        chosen = self.chosen()
        return found or ([chosen] if chosen else [])

    # -- keys ---------------------------------------------------------------------------------

    def on_data_table_row_selected(self, event: DataTable.RowSelected) -> None:
        """Enter or a second click: watch."""
        event.stop()
        if event.data_table.id == "table":
            self.action_watch()

    def on_data_table_row_highlighted(self, event: DataTable.RowHighlighted) -> None:
        """Another run is under the cursor."""
        if event.data_table.id == "table":
            self._detail()

    def apply_filter(self, text: str) -> None:
        """Only runs that have every word."""
        self.wanted = text
        self._fill()

    def copied(self) -> tuple[str, str] | None:
        """The comparison, or the path of the run."""
        if self.has_class("-comparing"):
            view = self.query_one(CompareView)
            return "comparison", f"{view.summary()}\n{view.text}"
        run = self.chosen()
        return ("run", str(run.path)) if run else None

    def go_back(self) -> bool:
        """esc: out of the comparison, then no marks."""
        if self.has_class("-comparing"):
            self.remove_class("-comparing")
            self.query_one("#table").focus()
            return True
        if self.marks:
            self.marks.clear()
            self._fill()
            return True
        return False

    def action_mark(self) -> None:
        """Mark, and go to the next one."""
        run = self.chosen()
        if run is not None:
            self.marks ^= {run.id}
            self._fill()
            self.query_one("#table", DataTable).action_cursor_down()

    def action_sort(self) -> None:
        """By the next column."""
        self.sort = SORTS[(SORTS.index(self.sort) + 1) % len(SORTS)]
        self.layout_memory.set("runs.sort", self.sort)
        self.notify(f"sorted by {self.sort}", timeout=2)
        self._fill()

    def action_compare(self) -> None:
        """The marked runs, or this one and the newest other one."""
        runs = self.marked()
        if len(runs) == 1:
            others = [row.run for row in rows.order(self.rows, "created") if row.run != runs[0]]
            runs += others[:1]
        if len(runs) < 2:
            self.tell("there is no other run to compare with")
            return
        if len(runs) > MOST:
            self.tell(f"the first {MOST} of {len(runs)} marked runs are compared")
        self.add_class("-comparing")
        view = self.query_one(CompareView)
        view.show(runs[:MOST])
        view.query_one("#curves").focus()
        self._verdict(runs[:MOST])

    @work(exclusive=True, group="verdict")
    async def _verdict(self, runs: list[Run]) -> None:
        view = self.query_one(CompareView)
        if not commands.available("compare"):
            view.tell(f"no verdict: {commands.missing('compare')}")
            return
        view.tell("verdict: comparing the bits ...")
        child = await asyncio.to_thread(
            commands.start, ["compare", *(str(run.path) for run in runs)], self.lab.state
        )
        while child.ended() is None:
            await asyncio.sleep(0.2)
        view.tell(f"{child.words}\n{child.first_words()}")

    def action_metric(self) -> None:
        """Another metric in the comparison."""
        self.query_one(CompareView).next_metric()

    def action_log_axis(self) -> None:
        """Log or linear, in the comparison."""
        if self.has_class("-comparing"):
            self.query_one("#compare #curves", Chart).action_log()

    def action_smooth(self) -> None:
        """Smoothed or not, in the comparison."""
        self.query_one(CompareView).toggle_smooth()


def _cells(row: Row, marked: bool, look: Styles, now: float) -> dict[str, Text]:
    """The cells of a row by column."""
    total = f"/{row.steps}" if row.steps else ""
    return {
        " ": Text("●" if marked else "", look["accent"]),
        "run": Text(row.run.id, overflow="ellipsis", no_wrap=True),
        "state": sign(row.state, look),
        "step": Text(f"{row.step}{total}"),
        "loss": Text(number(row.loss)),
        "curve": Text(rows.sparkline(row.losses), look["primary"]),
        "eval": Text(number(row.evaluation)),
        "method": Text(row.method),
        "model": Text(row.model.rpartition("/")[2], overflow="ellipsis", no_wrap=True),
        "tok/s": Text(number(row.tok_s)),
        "age": Text(age(max(0.0, now - row.created)) if row.created else "-"),
        "size": Text(rows.bytes_text(row.size)),
        "tags": Text(" ".join(f"#{tag}" for tag in row.tags), overflow="ellipsis", no_wrap=True),
    }
