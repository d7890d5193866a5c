"""The four steps of New: model, data, settings, review. They show; the screen decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.widgets import Button, Input, Label, OptionList, Static
from textual.widgets.option_list import Option

from ftlab.facts import DataFacts, Machine
from ftlab.plan import Plan
from ftlab.planning.words import number, size
from ftlab_tui import theme
from ftlab_tui.new import fits, show, sources
from ftlab_tui.new.completing import PathSuggester
from ftlab_tui.new.devices import Devices
from ftlab_tui.new.draft import Draft
from ftlab_tui.new.form import Form
from ftlab_tui.new.sources import Base, LocalModel
from ftlab_tui.widgets.choice import Choice
from ftlab_tui.widgets.options import Options

WAYS = tuple(name for name, _, _ in fits.WAYS)
SIGNS = {"yes": "✓", "tight": "~", "no": "✗", "-": "-"}


class Step(Vertical):
    """One step; `first` gets the focus when the step comes."""

    DEFAULT_CSS = """
    Step { height: 1fr; width: 1fr; padding: 0 1; }
    Step .ask { height: 1; text-style: bold; }
    Step .note { height: auto; max-height: 4; color: $text-muted; }
    Step .problem { height: auto; max-height: 6; color: $error; }
    Step Input { background: $surface; margin-bottom: 0; }
    Step Input:focus { background: $panel; }
    Step OptionList {
        height: 1fr; border: none; background: $background; padding: 0;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    Step OptionList:focus { border: none; }
    Step #model-head, Step #preset-about { text-wrap: nowrap; text-overflow: ellipsis; }
    """
    first = ""


class ModelStep(Step):
    """Which model: what is here, what the hub's cache has, and what a search finds."""

    first = "#model-list"

    def compose(self) -> ComposeResult:
        """A line to type an id or path or search words; the list."""
        yield Label("1 Model: which one to start from", classes="ask")
        yield Input(placeholder="hub id or folder; words search the hub", compact=True,
                    id="model-name", select_on_focus=False,
                    suggester=PathSuggester(lambda path: False))  # fmt: skip
        yield Static(id="model-head", classes="note")
        yield Options(id="model-list")
        yield Static(id="model-problem", classes="problem")
        yield Static(id="model-note", classes="note")

    def fill(self, models: Sequence[LocalModel], machine: Machine | None, chosen: str) -> None:
        """The list with its fit marks, those that fit first."""
        listed = self.query_one("#model-list", OptionList)
        width = max(20, min(48, self.size.width - 36))
        room = fits.room(machine)
        rows = [(model, fits.marks(model.config, machine)) for model in models]
        rows.sort(key=lambda row: row[1].mark("LoRA", room) == "no")
        head = f"  {'name':<{width}}{'size':>9}  {'QLoRA':<6}{'LoRA':<5}{'full':<5}from"
        self.query_one("#model-head", Static).update(Text(head, no_wrap=True))
        listed.clear_options()
        listed.add_options(
            Option(self._line(model, marks, room, width), id=model.name) for model, marks in rows
        )
        names = [model.name for model, _ in rows]
        if names:
            listed.highlighted = names.index(chosen) if chosen in names else 0
        where = "no machine facts yet" if room is None else f"{size(room)} to train in"
        self.query_one("#model-note", Static).update(
            Text(f"✓ fits  ~ tight  ✗ too large ({where}, {fits.TOKENS} tokens at once)")
        )

    def _line(self, model: LocalModel, marks: fits.Marks, room: int | None, width: int) -> Text:
        name = model.name
        name = name if len(name) <= width - 1 else "…" + name[-(width - 2) :]
        line = Text(no_wrap=True, overflow="ellipsis").append(f"{name:<{width}}")
        line.append(f"{number(marks.parameters) if marks.parameters else '?':>9}  ", "dim")
        tones = theme.tones(self.app.theme_variables)
        for way, wide in zip(WAYS, (6, 5, 5), strict=True):
            mark = marks.mark(way, room)
            tone = {"yes": "success", "tight": "warning", "no": "error"}.get(mark)
            line.append(f"{SIGNS[mark]:<{wide}}", tones[tone] if tone else "dim")
        place = model.place if model.complete else f"{model.place}, to fetch"
        return line.append(marks.refused or place, "dim")

    def found(self, rows: Iterable[tuple[str, str]]) -> None:
        """Add what the hub's search found: (id, about)."""
        listed = self.query_one("#model-list", OptionList)
        known = {option.id for option in listed.options}
        listed.add_options(
            Option(Text(f"{name}  {about}", no_wrap=True, overflow="ellipsis"), id=name)
            for name, about in rows
            if name not in known
        )


class DataStep(Step):
    """What to learn from, and how it looks once it is read as it will be trained."""

    first = "#data-list"

    DEFAULT_CSS = """
    DataStep #data-list { height: auto; max-height: 6; }
    DataStep VerticalScroll { height: 1fr; border-top: solid $panel; }
    """

    def compose(self) -> ComposeResult:
        """A line to type a path or id; files nearby; the facts."""
        yield Label("2 Data: what to learn from", classes="ask")
        yield Input(placeholder="path of a file or folder, or hub id", compact=True,
                    id="data-source", select_on_focus=False,
                    suggester=PathSuggester(sources.is_data))  # fmt: skip
        yield Options(id="data-list")
        yield Static(id="data-problem", classes="problem")
        yield Static(id="data-note", classes="note")
        with VerticalScroll():
            yield Static(id="data-facts")
            yield Static(id="data-samples")

    def fill(self, rows: Sequence[tuple[str, str]], chosen: str) -> None:
        """The bundled data and files nearby: (source, about)."""
        listed = self.query_one("#data-list", OptionList)
        listed.clear_options()
        listed.add_options(
            Option(
                Text.assemble(self._short(source), (f"  {about}", "dim"), no_wrap=True), id=source
            )
            for source, about in rows
        )
        names = [source for source, _ in rows]
        if names:
            listed.highlighted = names.index(chosen) if chosen in names else 0

    def _short(self, source: str) -> str:
        room = max(16, self.size.width - 30)
        return source if len(source) <= room else "…" + source[-(room - 1) :]

    def tell(self, facts: DataFacts | None, limit: int | None) -> None:
        """Facts and samples of the data that was read."""
        colours = theme.tones(self.app.theme_variables)
        about, rows = self.query_one("#data-facts", Static), self.query_one("#data-samples", Static)
        if facts is None:
            about.update("")
            rows.update("")
            return
        about.update(show.data(facts, limit, colours, self.size.width - 4))
        text = Text()
        samples = facts.samples or ((facts.sample,) if facts.sample else ())
        for place, sample in enumerate(samples, 1):
            text.append(f"row {place} of {len(samples)} shown; coloured text is trained\n", "dim")
            text.append_text(show.marked(sample, colours)).append("\n")
        rows.update(text)


class SettingsStep(Step):
    """How: preset or recipe, then every setting."""

    first = "#preset"

    DEFAULT_CSS = """
    SettingsStep .row { height: 1; }
    SettingsStep .row Label { width: 19; padding-left: 1; color: $text-muted; }
    SettingsStep #about { height: 5; border-top: solid $panel; padding: 0 1; }
    SettingsStep #preset-about { height: 1; padding: 0 1; color: $text-muted; }
    """

    def __init__(self, draft: Draft, bases: Sequence[Base], *, simple: bool) -> None:
        super().__init__(id="step-settings")
        self.draft, self.bases, self.simple = draft, bases, simple

    def compose(self) -> ComposeResult:
        """Preset, how much is shown, the form, and what the focused setting is."""
        yield Label("3 Settings: how to train", classes="ask")
        with Horizontal(classes="row"):
            yield Label("preset")
            yield Choice([base.name for base in self.bases], self.draft.preset, id="preset")
        yield Static(id="preset-about")
        with Horizontal(classes="row"):
            yield Label("show")
            yield Choice(
                ["simple", "advanced"], "simple" if self.simple else "advanced", id="depth"
            )
        yield Form(self.draft, simple=self.simple)
        yield Static(id="about")


class ReviewStep(Step):
    """Everything once more, and the button that starts it."""

    first = "#launch"

    DEFAULT_CSS = """
    ReviewStep VerticalScroll { height: 1fr; }
    ReviewStep .title { text-style: bold; color: $primary; margin-top: 1; height: 1; }
    ReviewStep #launch { width: 100%; margin: 0; }
    ReviewStep Static { height: auto; }
    """

    def compose(self) -> ComposeResult:
        """The button stays in view; the rest scrolls."""
        yield Label("4 Review: what will happen", classes="ask")
        yield Button("Start training (Enter)", id="launch", variant="primary", compact=True)
        yield Static(id="launch-note", classes="note")
        with VerticalScroll(id="review-scroll"):
            yield Static(id="review-problem", classes="problem")
            yield Static(id="review-place", classes="note")
            yield Devices(id="review-devices")
            yield Static(id="review-doctor")
            yield Static("Course", classes="title")
            yield Static(id="review-course")
            yield Static("Memory at the peak of a step", classes="title")
            yield Static(id="review-memory")
            yield Static("Different from the preset", classes="title")
            yield Static(id="review-difference")
            yield Static("Decided for you", classes="title")
            yield Static(id="review-decisions")

    def tell(self, plan: Plan | None, draft: Draft, note: str) -> None:
        """The plan, or what is being done to get one."""
        colours = theme.tones(self.app.theme_variables)
        self.query_one("#launch-note", Static).update(Text(note))
        self.query_one("#review-difference", Static).update(
            show.difference(draft.difference(), draft.preset)
        )
        self.query_one(Devices).follow(draft)
        course, memory = Text(), Text("-", "dim")
        decisions = Text()
        if plan is not None:
            for name, value in show.course(plan):
                course.append(f"{name:<9}", "dim").append(f"{value}\n")
            for warning in plan.warnings:
                course.append(f"! {warning}\n", colours["warning"])
            course.rstrip()
            memory = show.memory_terms(plan, colours)
            for name, decision in plan.decisions.items():
                decisions.append(f"{name} ").append(f"{decision.value}", "bold")
                decisions.append(f"  {decision.reason}\n", "dim")
        self.query_one("#review-course", Static).update(course if course else Text("-", "dim"))
        self.query_one("#review-memory", Static).update(memory)
        self.query_one("#review-decisions", Static).update(decisions)
