"""Doctor: the findings of ftdoctor, worst first, each with its reason and the fix command."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from ftlab.errors import FtlabError
from ftlab_tui import copying, theme
from ftlab_tui.doctor import report
from ftlab_tui.doctor.report import Finding
from ftlab_tui.widgets.modescreen import ModeScreen
from ftlab_tui.widgets.options import Options


class DoctorScreen(ModeScreen):
    """Findings on the left, the chosen one on the right."""

    MODE = "doctor"
    HELP_TEXT = (
        "The doctor looks at driver, libraries, GPU, disk and container. Nothing is changed: fix "
        "commands are shown, `y` copies those of the chosen finding, `c` checks it again, `x` "
        "writes the whole report to a file."
    )
    CSS = """
    DoctorScreen #sum { height: 1; padding: 0 1; background: $surface; }
    DoctorScreen #findings {
        width: 2fr; height: 1fr; border: none; background: $background;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    DoctorScreen #findings:focus { border: none; }
    DoctorScreen #detail { width: 3fr; border-left: solid $panel; padding: 0 1; }
    DoctorScreen.-narrow Horizontal { layout: vertical; }
    DoctorScreen.-narrow #findings { width: 100%; height: 1fr; }
    DoctorScreen.-narrow #detail {
        width: 100%; height: 1fr; border-left: none; border-top: solid $panel;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "Run again"),
        Binding("c", "check", "Check one", tooltip="run the chosen check again"),
        Binding("d", "deep", "Deep", tooltip="also run kernels and libraries (a minute)"),
        Binding("x", "snapshot", "Snapshot", tooltip="write the report to a file"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Finding] = []
        self.text = ""
        self.wanted = ""

    def body(self) -> Iterable[Widget]:
        """A sum, the list, the detail."""
        yield Static("examining this machine ...", id="sum")
        with Horizontal():
            yield Options(id="findings")
            with VerticalScroll(id="detail"):
                yield Static(id="about")

    def on_mount(self) -> None:
        """Examine at once."""
        self.query_one("#findings").focus()
        self.examine()

    @work(exclusive=True, group="doctor", exit_on_error=False)
    async def examine(self, options: tuple[str, ...] = (), only: str = "") -> None:
        """Run the doctor; with `only`, replace that one finding."""
        line = self.query_one("#sum", Static)
        line.update(f"checking {only or 'this machine'} ...")
        try:
            text = await report.ask(options)
            found = report.read(text)
        except FtlabError as error:
            line.update(Text(str(error), theme.tones(self.app.theme_variables)["error"]))
            return
        if only:
            new = {item.id: item for item in found}
            self.found = [new.get(item.id, item) for item in self.found]
        else:
            self.found, self.text = found, text
        self.show_findings()

    def show_findings(self) -> None:
        """The list again, the same finding highlighted."""
        listed = self.query_one("#findings", OptionList)
        option = listed.highlighted_option
        before = option.id if option is not None else None
        shown = [item for item in self.found if self.wanted in f"{item.id} {item.title}".lower()]
        listed.clear_options()
        options: list[Option] = []
        for group, items in report.grouped(shown):
            options.append(Option(Text(group, "dim"), disabled=True))
            options += [Option(self._line(item), id=item.id) for item in items]
        listed.add_options(options)
        ids = [option.id for option in options]
        if ids:
            listed.highlighted = ids.index(before) if before and before in ids else 1
        self.query_one("#sum", Static).update(Text(report.summary(self.found), "bold"))

    def _line(self, item: Finding) -> Text:
        tone = report.TONES.get(item.status)
        style = theme.tones(self.app.theme_variables)[tone] if tone else "dim"
        sign = f" {report.SIGNS.get(item.status, '?')} {item.status:<8}"
        return Text.assemble((sign, style), item.title, no_wrap=True, overflow="ellipsis")

    def chosen(self) -> Finding | None:
        """The highlighted finding."""
        option = self.query_one("#findings", OptionList).highlighted_option
        return next((item for item in self.found if option and item.id == option.id), None)

    @on(OptionList.OptionHighlighted)
    def show_detail(self) -> None:
        """Everything about one finding."""
        item = self.chosen()
        if item is None:
            return
        text = Text(f"{item.title}\n", "bold").append(
            f"{item.id}: {item.status}\n\n", "dim not bold"
        )
        for name, value in (("found", item.observed), ("wanted", item.expected), ("why", item.why),
                            ("blocks", ", ".join(item.blocks))):  # fmt: skip
            if value:
                text.append(f"{name:<8}", "dim not bold").append(f"{value}\n", "not bold")
        for command, needs in item.fixes:
            text.append("\nfix     ", "dim not bold").append(command, "bold")
            text.append(f"  {needs}" if needs not in ("", "none") else "", "dim not bold")
        if item.evidence:
            text.append("\n\nseen\n", "dim not bold").append("\n".join(item.evidence), "not bold")
        self.query_one("#about", Static).update(text)

    def apply_filter(self, text: str) -> None:
        """Narrow the findings."""
        self.wanted = text.lower()
        self.show_findings()

    def copied(self) -> tuple[str, str] | None:
        """The fix commands of the chosen finding, else what was found."""
        item = self.chosen()
        if item is None:
            return None
        commands = "\n".join(command for command, _ in item.fixes)
        return f"fix-{item.id}", commands or f"{item.title}: {item.observed}"

    def action_again(self) -> None:
        """Everything again."""
        self.examine()

    def action_deep(self) -> None:
        """With the slow probes."""
        self.examine(("--deep",))

    def action_check(self) -> None:
        """The chosen check again."""
        item = self.chosen()
        if item is not None:
            self.examine(("--check", item.id), item.id)

    def action_snapshot(self) -> None:
        """The report as a file."""
        if not self.text:
            self.notify("there is no report yet")
            return
        try:
            path = copying.write(self.lab.state / "copied", "doctor-report.json", self.text)
        except OSError as error:
            self.notify(f"no report was written: {error.strerror}", severity="error", markup=False)
            return
        self.notify(str(path), title="report written", markup=False)
