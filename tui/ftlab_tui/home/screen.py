"""Home: the next sensible thing to do comes first; then what runs and what ran."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

from rich.text import Text
from textual import on
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ftlab_tui import theme
from ftlab_tui.widgets.modescreen import ModeScreen
from ftlab_tui.widgets.options import Options

if TYPE_CHECKING:
    from ftlab.run import Run
    from ftlab_tui.new.screen import NewScreen

RECENT = 8
SIGNS = {"running": "●", "stalled": "◐", "done": "✓", "failed": "✗", "lost": "✗", "stopped": "■",
         "planned": "○"}  # fmt: skip
TONES = {"running": "success", "done": "primary", "failed": "error", "lost": "error",
         "stalled": "warning"}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One run, as Home shows it."""

    id: str
    state: str
    progress: str
    age: str


class HomeScreen(ModeScreen):
    """The first screen."""

    MODE = "home"
    HELP_TEXT = (
        "Enter does what is highlighted. Quick start prepares the bundled model and task and shows "
        "the plan; one more Enter starts it. Training never depends on this app: close it at any "
        "time, `ftui attach RUN` shows the run again."
    )
    CSS = """
    HomeScreen #hello { height: auto; padding: 1 2 0 2; }
    HomeScreen #actions {
        height: 1fr; border: none; background: $background; padding: 1 1;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    HomeScreen #actions:focus { border: none; }
    HomeScreen #foot { height: auto; padding: 0 2 1 2; color: $text-muted; }
    HomeScreen.-short #hello { padding: 0 2; }
    """

    def body(self) -> Iterable[Widget]:
        """A greeting, the list, where things lie."""
        yield Static(
            Text.assemble(
                ("ftlab", "bold"), "  fine-tune a language model, and be able to do it again\n",
                ("Nothing leaves this machine; training goes on when this app is closed.", "dim"),
            ),
            id="hello",
        )  # fmt: skip
        yield Options(id="actions")
        yield Static(id="foot")

    def on_mount(self) -> None:
        """Show the list."""
        self.refresh_list("")
        self.query_one("#actions").focus()

    def shown(self) -> None:
        """Runs may have changed."""
        if self.query("#actions"):
            self.refresh_list("")
            self.query_one("#actions").focus()

    def apply_filter(self, text: str) -> None:
        """Narrow the runs."""
        self.refresh_list(text.lower())

    def copied(self) -> tuple[str, str] | None:
        """The path of the highlighted run."""
        chosen = self._highlighted()
        if chosen.startswith("run:"):
            return chosen[4:], str(self.lab.runs_dir.resolve() / chosen[4:])
        return None

    def _highlighted(self) -> str:
        option = self.query_one("#actions", OptionList).highlighted_option
        return str(option.id) if option is not None and option.id else ""

    def refresh_list(self, wanted: str) -> None:
        """Actions, then runs, newest first."""
        listed = self.query_one("#actions", OptionList)
        before = self._highlighted()
        lines = self._runs()
        options: list[Option | None] = [
            Option(_action("Quick start", "teach a small model a task in minutes"), id="quick"),
            Option(_action("New run", "model, data, settings, review"), id="new"),
        ]
        if lines:
            options.append(Option(_action("Repeat last", f"start from {lines[0].id}"), id="again"))
        shown = [line for line in lines if wanted in line.id.lower()][: 100 if wanted else RECENT]
        if shown:
            options.append(None)
            options += [Option(self._run(line), id=f"run:{line.id}") for line in shown]
        listed.clear_options()
        listed.add_options(options)
        ids = [option.id for option in options if option is not None]
        listed.highlighted = ids.index(before) if before in ids else 0
        runs = f"{len(lines)} run{'' if len(lines) == 1 else 's'} in {self.lab.runs_dir}"
        self.query_one("#foot", Static).update(Text(f"{runs}   host {self.lab.host}"))

    def _runs(self) -> list[Line]:
        from ftlab.errors import FtlabError
        from ftlab.run import Run

        try:
            runs = Run.all(self.lab.runs_dir)
        except FtlabError:
            return []
        return [line for line in map(self._line, reversed(runs[-200:])) if line is not None]

    def _line(self, run: Run) -> Line | None:
        from ftlab.errors import FtlabError

        try:
            status, state = run.status(), run.liveness()
        except FtlabError:
            return None
        age = _age(self.lab.now() - (status.updated or status.created))
        return Line(run.id, state, f"{status.step}/{status.steps}", age)

    def _run(self, line: Line) -> Text:
        tone = TONES.get(line.state)
        sign = f"{SIGNS.get(line.state, '?')} {line.state:<8}"
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(sign, theme.tones(self.app.theme_variables)[tone] if tone else "dim")
        text.append(f" {line.id:<38} ").append(f"{line.progress:>11} steps  {line.age}", "dim")
        return text

    @on(OptionList.OptionSelected)
    def act(self, event: OptionList.OptionSelected) -> None:
        """Enter or a click."""
        from ftlab.errors import FtlabError
        from ftlab.run import Run

        chosen = str(event.option.id)
        if chosen == "quick":
            self.app.switch_mode("new")
            cast("NewScreen", self.app.screen).quick_start()
        elif chosen == "new":
            self.app.switch_mode("new")
        elif chosen == "again":
            self.ftui.repeat_last()
        else:
            try:
                run = Run.find(chosen.removeprefix("run:"), self.lab.runs_dir)
            except FtlabError as error:  # it was deleted since it was listed
                self.notify(str(error), severity="warning", markup=False)
                self.refresh_list("")
                return
            self.ftui.open_run(run)


def _action(name: str, about: str) -> Text:
    return Text.assemble((f"{name:<13}", "bold"), (about, "dim"), no_wrap=True, overflow="ellipsis")


def _age(seconds: float) -> str:
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds / size)} {unit} ago"
    return "just now"
