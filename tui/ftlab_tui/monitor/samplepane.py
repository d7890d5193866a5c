"""What the model answers: before training and now, prompt by prompt, beside what was hoped for."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import Static

from ftlab.run import LIVE
from ftlab_tui.colours import styles
from ftlab_tui.reading.live import Event, LiveRun


class SamplePane(VerticalScroll, can_focus=True):
    """One prompt at a time; `next` goes to another."""

    ALLOW_MAXIMIZE = True
    DEFAULT_CSS = """
    SamplePane {
        border: round $panel;
        border-title-color: $text;
        border-subtitle-color: $text-muted;
        padding: 0 1;
        scrollbar-size-vertical: 1;
        &:focus { border: round $accent; }
        Static { height: auto; width: 100%; }
    }
    """

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.number = 0
        self._key: object = None
        self._text = ""

    def compose(self) -> ComposeResult:
        """One text."""
        yield Static("", markup=False)

    def next(self, live: LiveRun) -> None:
        """Go to the next prompt."""
        self.number += 1
        self.update(live)

    def update(self, live: LiveRun) -> None:
        """Show the newest answers."""
        prompts = list(live.samples.items())
        if prompts:
            self.number %= len(prompts)
        events = prompts[self.number][1] if prompts else []
        words = "" if prompts else _none(live)
        key = self.number, tuple(id(event) for event in events), len(prompts), words, self.app.theme
        if key == self._key:
            return
        self._key = key
        text = self._describe(prompts[self.number][0], events) if prompts else Text(words)
        self._text = text.plain
        self.query_one(Static).update(text)
        steps = " → ".join(str(event.get("step", "?")) for event in events)
        count = f" {self.number + 1}/{len(prompts)}" if prompts else ""
        self.border_title = f"samples{count}"
        self.border_subtitle = f"step {steps}" if steps else ""

    @property
    def text(self) -> str:
        """What is shown, for copying."""
        return self._text

    def _describe(self, prompt: str, events: list[Event]) -> Text:
        look = styles(self.app)
        text = Text()
        text.append("prompt ", look["muted"]).append(f"{prompt.strip()}\n")
        first, newest = events[0], events[-1]
        if newest is not first:
            text.append(f"before (step {first.get('step', '?')}) ", look["warning"])
            text.append(f"{_answer(first)}\n")
        text.append(f"now (step {newest.get('step', '?')}) ", look["success"])
        text.append(f"{_answer(newest)}\n")
        if reference := str(newest.get("reference") or "").strip():
            text.append("hoped for ", look["muted"]).append(reference)
        return text


def _answer(event: Event) -> str:
    return str(event.get("text") or "").strip() or "(nothing)"


def _none(live: LiveRun) -> str:
    """Why there is nothing to see."""
    if live.loaded < 1:
        return "reading ..."
    if live.state not in (*LIVE, "planned"):
        return "no samples were made: `train.samples` makes some at every evaluation"
    return f"no samples yet: `g` asks for one{'' if live.last_step else ' once steps are made'}"
