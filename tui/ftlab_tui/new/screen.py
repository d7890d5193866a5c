"""New: four steps from nothing to a running job; Enter goes on, esc goes back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input, OptionList, Static

from ftlab import yamltext
from ftlab.errors import ConfigError, FtlabError, Problem
from ftlab.facts import Machine
from ftlab_tui.names import short
from ftlab_tui.new import form, guess, hubtoken, sources, steps
from ftlab_tui.new.asking import Asking
from ftlab_tui.new.draft import Draft
from ftlab_tui.new.planning import Planner
from ftlab_tui.new.side import Side
from ftlab_tui.new.starting import Starting
from ftlab_tui.new.widths import Widths
from ftlab_tui.widgets.choice import Choice

STEPS = ("model", "data", "settings", "review")
PAUSE = 0.4  # seconds without typing before model and data are read


class NewScreen(Asking, Starting, Widths):
    """The wizard."""

    MODE = "new"
    HELP_TEXT = (
        "Enter takes what is chosen and goes on; esc goes back. The pane on the right is the file "
        "that `ftrun train` takes: the same run without this app. The memory bar is the plan's own "
        "estimate. Model and data are read by another process as soon as both are chosen. "
        "ctrl+left and ctrl+right move the border; ctrl+t takes a token of the hub."
    )
    CSS = """
    NewScreen #stepper { height: 1; background: $surface; padding: 0 1; }
    NewScreen ContentSwitcher { width: 1fr; height: 1fr; }
    NewScreen #columns { height: 1fr; }
    NewScreen.-wide Side { width: 60; }
    NewScreen.-narrow #columns { layout: vertical; }
    NewScreen.-narrow Side { width: 100%; height: 2; border: none; }
    NewScreen.-narrow Side .head, NewScreen.-narrow Side #yaml, NewScreen.-narrow Side #note {
        display: none;
    }
    NewScreen.-narrow Side #command { height: 1; max-height: 1; }
    NewScreen.-short #about { height: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "next", "Next", priority=False),
        Binding("ctrl+s", "save", "Save", tooltip="write the file as run.yaml here"),
        Binding("ctrl+n", "step(1)", "Next step", show=False),
        Binding("ctrl+b", "step(-1)", "Step back", show=False),
        Binding("a", "depth", "Simple/Adv", tooltip="simple or advanced form"),
        Binding("ctrl+r", "again", "Read again", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.draft = Draft()
        self.step = "model"
        self.machine: Machine | None = None
        self.models: list[sources.LocalModel] = []
        self.bases = sources.bases()
        self.launching = False
        self.draft_fault = ""
        self.noted = ""
        self.timer: Timer | None = None
        standard = next(base for base in self.bases if base.name == "standard")
        self.draft.take(standard.mapping, "standard")
        for path in ("model.name", "data.source"):
            self.draft.unset(path)
            self.draft.base = {k: dict(v) for k, v in self.draft.given.items()}

    # -- the base's questions -------------------------------------------------------------------

    def body(self) -> Iterable[Widget]:
        """Stepper, the four steps, the pane."""
        self.planner = Planner(self.lab.runs_dir)
        simple = self.layout_memory.get("simple", True)
        yield Static(id="stepper")
        with Horizontal(id="columns"):
            with ContentSwitcher(initial=f"step-{self.step}"):
                yield steps.ModelStep(id="step-model")
                yield steps.DataStep(id="step-data")
                yield steps.SettingsStep(self.draft, self.bases, simple=simple)
                yield steps.ReviewStep(id="step-review")
            yield Side()

    def copied(self) -> tuple[str, str] | None:
        """The YAML."""
        return "run.yaml", self.draft.yaml()

    def edited(self) -> Path | None:
        """The draft as a file; nothing is opened where it cannot be written."""
        self.draft_fault = ""  # it is asked for, so it is told again
        return self.keep_draft()

    def after_edit(self, path: Path) -> None:
        """Read the draft back."""
        try:
            self.load_text(path.read_text(encoding="utf-8"), self.draft.preset, step=self.step)
        except OSError as error:
            self.notify(str(error), severity="error", markup=False)

    def apply_filter(self, text: str) -> None:
        """Narrow the list of models or data; words in step 1 also search the hub."""
        wanted = text.lower()
        if self.step == "model":
            models = [model for model in self.models if wanted in model.name.lower()]
            self._models().fill(models, self.machine, self.draft.get("model.name"))
        elif self.step == "data":
            self._fill_data(wanted)

    def can_filter(self) -> bool:
        """Lists are in the first two steps."""
        return self.step in ("model", "data")

    def go_back(self) -> bool:
        """esc: out of a launch that waits, else one step back."""
        if self.launching:
            self.launching = False
            self.refresh_draft()
            return True
        at = STEPS.index(self.step)
        if at:
            self.go(STEPS[at - 1])
        return at > 0

    # -- beginnings -------------------------------------------------------------------------------

    def on_mount(self) -> None:
        """Look for models and at the machine, and show what the draft holds."""
        self.models = sources.models()
        self.call_after_refresh(self._fill)
        self.look_at_machine()
        self.look_at_doctor()
        self.go(self.step)

    def load_text(self, text: str, origin: str, step: str = "settings") -> None:
        """Take a config written elsewhere, such as a run's."""
        try:
            mapping = yamltext.read(text, origin).value
        except ConfigError as error:
            self.notify(str(error), severity="error", markup=False, timeout=10)
            return
        self.draft.take(mapping or {}, origin, keep=False)
        self._begun(step)

    def quick_start(self) -> None:
        """The bundled model and task, ready to be started."""
        self._write_starter()
        self.draft.take(sources.starter_mapping(), "starter", keep=False)
        self._begun("review")

    def _write_starter(self) -> None:
        """Have the bundled data here; a full disk is told, and told again by the plan."""
        try:
            sources.write_starter()
        except (FtlabError, OSError) as error:
            self.notify(f"the bundled data: {error}", severity="error", markup=False)

    def _begun(self, step: str) -> None:
        self.step = step
        if self.is_mounted and self.query(Side):
            self._fill()
            self.query_one(form.Form).refill()
            self.go(step)
            self.refresh_draft()

    def _fill(self) -> None:
        self._models().fill(self.models, self.machine, self.draft.get("model.name"))
        self._fill_data("")
        for path, line in (("model.name", "#model-name"), ("data.source", "#data-source")):
            with self.prevent(Input.Changed):
                self.query_one(line, Input).value = self.draft.get(path)
        self._about_preset()
        self.refresh_draft()

    def _fill_data(self, wanted: str) -> None:
        folder = sources.starter_folder()
        rows = [
            (str(folder / "train.jsonl"), "bundled: orders to records, 240 chats"),
            (str(folder / "preference.jsonl"), "bundled: the same as preference pairs (DPO)"),
            *((name, "") for name in sources.data_files()),
        ]
        rows = [row for row in rows if wanted in row[0].lower()]
        self.query_one(steps.DataStep).fill(rows, self.draft.get("data.source"))

    def _models(self) -> steps.ModelStep:
        return self.query_one(steps.ModelStep)

    # -- steps ------------------------------------------------------------------------------------

    def go(self, step: str) -> None:
        """Show a step and put the focus where its answer is given."""
        self.step = step
        self.query_one(ContentSwitcher).current = f"step-{step}"
        stepper = Text(no_wrap=True)
        for number, name in enumerate(STEPS, 1):
            done = STEPS.index(name) < STEPS.index(step)
            style = "bold reverse" if name == step else "" if done else "dim"
            stepper.append(f" {'✓' if done else number} {name.title()} ", style).append(" ")
        self.query_one("#stepper", Static).update(stepper)
        if step == "review":
            self.look_at_place()
        first = self.query_one(f"#step-{step}", steps.Step).first
        self.query_one(first).focus()
        self.refresh_bindings()

    def action_step(self, by: int) -> None:
        """The next or previous step."""
        self.go(STEPS[max(0, min(len(STEPS) - 1, STEPS.index(self.step) + by))])

    def action_next(self) -> None:
        """Enter: take what is chosen and go on; on the last step, start."""
        if self.step == "review":
            self.action_launch()
        else:
            self.action_step(1)

    def action_depth(self) -> None:
        """Simple or advanced."""
        shown = self.query_one(form.Form)
        shown.toggle_class("-simple")
        simple = shown.has_class("-simple")
        self.layout_memory.set("simple", simple)
        self.query_one("#depth", Choice).value = "simple" if simple else "advanced"

    def action_again(self) -> None:
        """Read model and data again."""
        self.planner.key = ""
        self.refresh_draft()

    @on(OptionList.OptionSelected, "#model-list")
    def take_model(self, event: OptionList.OptionSelected) -> None:
        """Enter on a model."""
        self._give("model.name", str(event.option.id), "#model-name")
        self.action_step(1)

    @on(OptionList.OptionSelected, "#data-list")
    def take_data(self, event: OptionList.OptionSelected) -> None:
        """Enter on a data file. The bundled ones are written now."""
        source = str(event.option.id)
        if Path(source).parent == sources.starter_folder():
            self._write_starter()
        self._give("data.source", source, "#data-source")
        self.action_step(1)

    def _give(self, path: str, text: str, line: str) -> None:
        with self.prevent(Input.Changed):
            self.query_one(line, Input).value = text
        self.draft.type(path, text)
        self._guess(path)
        self.refresh_draft()

    @on(Input.Changed, "#model-name")
    def type_model(self, event: Input.Changed) -> None:
        """A name is typed."""
        self.draft.type("model.name", event.value.strip())
        self.refresh_draft()

    @on(Input.Changed, "#data-source")
    def type_data(self, event: Input.Changed) -> None:
        """A path or id is typed."""
        self.draft.type("data.source", event.value.strip())
        self._guess("data.source")
        self.refresh_draft()

    @on(Input.Submitted)
    def submit(self, event: Input.Submitted) -> None:
        """Enter in a line: search the hub for words, else go on."""
        if event.input.id == "model-name" and " " in event.value.strip():
            self.search_hub(event.value.strip())
        else:
            self.action_next()

    def _guess(self, path: str) -> None:
        """Preference data turns DPO on, other data turns it off; the reason is shown."""
        if path == "data.source":
            self.noted = guess.method(self.draft)
            self.query_one("#data-note", Static).update(Text(self.noted))
            self.query_one(form.Form).refill()

    @on(Choice.Changed, "#preset")
    def take_preset(self, event: Choice.Changed) -> None:
        """Begin again from a preset; model and data stay."""
        base = next(base for base in self.bases if base.name == event.value)
        self.draft.take(base.mapping, base.name)
        self._guess("data.source")
        self._about_preset()
        self.query_one(form.Form).refill()
        self.refresh_draft()

    def _about_preset(self) -> None:
        preset = self.draft.preset
        about = next((base.about for base in self.bases if base.name == preset), "")
        self.query_one("#preset", Choice).value = preset
        self.query_one("#preset-about", Static).update(
            Text(about, no_wrap=True, overflow="ellipsis")
        )

    @on(Choice.Changed, "#depth")
    def take_depth(self) -> None:
        """Simple or advanced, by its own line."""
        self.action_depth()

    def on_field_typed(self, event: form.Field.Typed) -> None:
        """A setting is typed or chosen."""
        event.stop()
        self.draft.type(event.path, event.text)
        others = ("adapter.kind", "method.kind", "data.format", "launch.where", "launch.devices")
        if event.path in others:
            self.draft.drop_inactive()
            self.query_one(form.Form).refill()
        self.refresh_draft()

    def on_form_about(self, event: form.Form.About) -> None:
        """Explain the focused setting."""
        event.stop()
        plan = self.planner.plan
        decision = plan.decisions.get(event.path) if plan else None
        silent = self.draft.inactive().get(event.path, "")
        self.query_one("#about", Static).update(form.explain(event.path, decision, silent))

    # -- the draft changed ------------------------------------------------------------------------

    def refresh_draft(self) -> None:
        """Judge the draft, plan it, show it; read model and data when they are others."""
        config, problems = self.draft.read()
        if not self.planner.stale(self.draft):
            self.planner.resolve(config)
        elif self.planner.key:
            self.planner.plan = None
        self._show(
            {**self.planner.problems, **problems} if config is None else self.planner.problems
        )
        if config is not None and self.planner.wants_look(self.draft):
            if self.timer is not None:
                self.timer.stop()
            if self.launching:
                self.look()
            else:
                self.timer = self.set_timer(PAUSE, self.look)

    @work(exclusive=True, group="look", exit_on_error=False)
    async def look(self) -> None:
        """Have model and data read, then plan."""
        config, _ = self.draft.read()
        if config is None:
            return
        await self.planner.look(config, self.draft, lambda: self._show({}))
        if self.planner.looking:
            return  # a later look has taken over
        facts = self.planner.facts
        limit = config.model.max_length if isinstance(config.model.max_length, int) else None
        self.query_one(steps.DataStep).tell(facts.data if facts else None, limit)
        self.refresh_draft()
        if self.launching:
            self.action_launch()

    def _show(self, problems: dict[str, Problem]) -> None:
        """Everything that depends on the draft."""
        planner, draft = self.planner, self.draft
        path = self.keep_draft() or self.lab.state / "draft.yaml"
        missing = [p.split(".")[0] for p in ("model.name", "data.source") if not draft.has(p)]
        note = (
            planner.busy
            or (planner.gated and f"{planner.gated} ({hubtoken.HINT})")
            or planner.failure
            or (f"choose {' and '.join(missing)} first" if missing else "")
        )
        self.query_one(Side).update(draft.yaml(), planner.plan, note, f"ftrun train {short(path)}")
        self.query_one(form.Form).judge(problems, draft.inactive())
        for name in ("model", "data"):
            found = [p for key, p in problems.items() if key.startswith(f"{name}.") and
                     "required" not in p.message]  # fmt: skip
            if name == "data" and "method.kind" in problems:
                found.append(problems["method.kind"])
            shown = "\n".join(f"! {problem}" for problem in found)
            self.query_one(f"#{name}-problem", Static).update(Text(shown))
        asked = "starts as soon as the plan is ready; esc takes it back" if self.launching else ""
        self.query_one(steps.ReviewStep).tell(planner.plan, draft, asked or note)
        listed = "\n".join(f"! {problem}" for problem in problems.values())
        self.query_one("#review-problem", Static).update(Text(listed or planner.failure))
