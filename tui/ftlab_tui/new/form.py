"""The form of step 3, generated from the schema: one line a setting, problems right below it."""

from __future__ import annotations

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.message import Message
from textual.widgets import Input, Label, Static

from ftlab import values
from ftlab.configtext import flow
from ftlab.errors import Problem
from ftlab.planning.types import Decision
from ftlab.setting import Setting
from ftlab_tui.new.draft import SETTINGS, Draft
from ftlab_tui.widgets.choice import Choice

ELSEWHERE = ("model.name", "data.source")  # chosen in the steps before


class Field(Vertical):
    """One setting: name, control, and what is wrong with it."""

    DEFAULT_CSS = """
    Field { height: auto; }
    Field Horizontal { height: 1; }
    Field .name { width: 18; color: $text-muted; }
    Field Input { width: 1fr; background: $surface; }
    Field Input:focus { background: $panel; }
    Field .unit { width: auto; padding: 0 1; color: $text-muted; }
    Field .problem { display: none; height: auto; padding-left: 18; color: $error; }
    Field.-wrong .problem { display: block; }
    Field.-silent { opacity: 50%; }
    """

    class Typed(Message):
        """A value was typed or chosen."""

        def __init__(self, path: str, text: str) -> None:
            self.path, self.text = path, text
            super().__init__()

    def __init__(self, setting: Setting, draft: Draft) -> None:
        super().__init__(id=setting.path.replace(".", "__"))
        self.setting, self.draft = setting, draft
        self.options = options(setting)

    def compose(self) -> ComposeResult:
        """A choice where there are only a few values, else a line to type in."""
        with Horizontal():
            yield Label(self.setting.name, classes="name")
            if self.options:
                yield Choice(self.options, flow(self.draft.get(self.setting.path)))
            else:
                given = self.draft.has(self.setting.path)
                yield Input(
                    text_of(self.draft.get(self.setting.path)) if given else "",
                    placeholder=f"{text_of(self.setting.default)}",
                    compact=True,
                    select_on_focus=False,
                )
            if self.setting.unit and not self.options:
                yield Label(self.setting.unit, classes="unit")
        yield Static(classes="problem")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Checked while typing."""
        event.stop()
        self.post_message(self.Typed(self.setting.path, event.value))

    def on_choice_changed(self, event: Choice.Changed) -> None:
        """Chosen."""
        event.stop()
        default = event.value == flow(self.setting.default)
        self.post_message(self.Typed(self.setting.path, "" if default else event.value))

    def refill(self) -> None:
        """Show what the draft holds; a text that is wrong stays as it was typed."""
        path = self.setting.path
        for choice in self.query(Choice):
            choice.value = flow(self.draft.get(path))
        for line in self.query(Input):
            if path not in self.draft.wrong:
                text = text_of(self.draft.get(path)) if self.draft.has(path) else ""
                if line.value != text and not line.has_focus:
                    with line.prevent(Input.Changed):
                        line.value = text

    def judge(self, problem: Problem | None, silent: str) -> None:
        """Show what is wrong, or why the setting has no effect."""
        self.set_class(problem is not None, "-wrong")
        self.set_class(problem is None and bool(silent), "-silent")
        if problem is not None:
            hint = f" ({problem.hint})" if problem.hint else ""
            self.query_one(".problem", Static).update(Text(f"! {problem.message}{hint}"))


class Form(VerticalScroll):
    """Every setting; the advanced ones only where they are asked for."""

    DEFAULT_CSS = """
    Form { height: 1fr; padding: 0 1; }
    Form .section { height: 1; margin-top: 1; text-style: bold; color: $primary; }
    Form.-simple .-advanced { display: none; }
    """

    class About(Message):
        """Another field has the focus; say what it is."""

        def __init__(self, path: str) -> None:
            self.path = path
            super().__init__()

    def __init__(self, draft: Draft, *, simple: bool) -> None:
        super().__init__(classes="-simple" if simple else "", can_focus=False)
        self.draft = draft

    def compose(self) -> ComposeResult:
        """Sections with their fields."""
        section = ""
        simple = {s.section for s in SETTINGS.values() if s.simple and s.path not in ELSEWHERE}
        for path, setting in SETTINGS.items():
            if path in ELSEWHERE:
                continue
            if setting.section != section:
                section = setting.section
                advanced = " -advanced" if section not in simple else ""
                yield Label(section, classes=f"section{advanced}")
            field = Field(setting, self.draft)
            field.set_class(not setting.simple, "-advanced")
            yield field

    @on(events.DescendantFocus)
    def tell(self, event: events.DescendantFocus) -> None:
        """Say what the focused field is."""
        for node in event.widget.ancestors:
            if isinstance(node, Field):
                self.post_message(self.About(node.setting.path))

    def judge(self, problems: dict[str, Problem], silent: dict[str, str]) -> None:
        """Problems at their fields."""
        for field in self.query(Field):
            path = field.setting.path
            found = problems.get(path) or next(
                (p for key, p in problems.items() if key.startswith(path + ".")), None
            )
            field.judge(found, silent.get(path, ""))
            if found is not None and field.has_class("-advanced"):
                field.remove_class("-advanced")  # a problem is never hidden

    def refill(self) -> None:
        """Show the draft again after a preset was taken."""
        for field in self.query(Field):
            field.refill()


def options(setting: Setting) -> list[str]:
    """The words to choose from, [] for what is typed."""
    if setting.annotation is bool:
        return ["true", "false"]
    members = setting.members
    if all(isinstance(choice, str) for choice in setting.choices) and len(setting.choices) > 1:
        return [flow(choice) for choice in setting.choices]
    if bool in members and setting.choices:
        return [*map(flow, setting.choices), "true", "false"]
    return []


def text_of(value: object) -> str:
    """A value as it is typed: text bare, everything else as YAML."""
    return value if isinstance(value, str) else flow(value)


def explain(path: str, decision: Decision | None, silent: str) -> Text:
    """Help, effect of raising it, range, default, and what auto became."""
    setting = SETTINGS[path]
    text = Text(f"{path}  ", "bold").append(setting.help, "not bold")
    if setting.raising:
        text.append(f" {setting.raising}", "not bold")
    allowed = values.allowed(setting)
    text.append(f"\nallowed: {allowed}; default: {flow(setting.default)}", "dim not bold")
    if silent:
        text.append(f"\nno effect now: {silent}", "not bold italic")
    elif decision is not None:
        text.append(f"\nnow: {flow(decision.value)}, because {decision.reason}", "not bold italic")
    return text
