"""One value out of a few on one line: left and right, space, or a click changes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget


class Choice(Widget, can_focus=True):
    """Shows every option while there is room, else `< one >`."""

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; padding: 0 1; background: $surface; }
    Choice:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space,l", "step(1)", "Change", key_display="←→", show=True),
        Binding("left,h", "step(-1)", "Change", show=False),
    ]
    value: reactive[str] = reactive("")

    class Changed(Message):
        """The person chose another option."""

        def __init__(self, choice: Choice, value: str) -> None:
            self.choice, self.value = choice, value
            super().__init__()

        @property
        def control(self) -> Choice:
            """The widget, for `@on` selectors."""
            return self.choice

    def __init__(self, options: Sequence[str], value: str, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.options = list(options)
        self.set_reactive(Choice.value, value)

    def render(self) -> Text:
        """The options with the chosen one marked."""
        chosen = "bold reverse" if self.has_focus else "bold underline"
        whole = sum(len(option) + 3 for option in self.options)
        if whole > self.size.width or len(self.options) > 6:
            text = Text(no_wrap=True, overflow="ellipsis")
            text.append("< ", "dim").append(f" {self.value} ", chosen).append(" >", "dim")
            if self.value in self.options:
                text.append(f"  {self.options.index(self.value) + 1}/{len(self.options)}", "dim")
            return text
        text = Text(no_wrap=True)
        for option in self.options:
            text.append(f" {option} ", chosen if option == self.value else "").append(" ")
        return text

    def action_step(self, by: int) -> None:
        """The next or previous option, round and round."""
        at = self.options.index(self.value) if self.value in self.options else -by
        self.value = self.options[(at + by) % len(self.options)]
        self.post_message(self.Changed(self, self.value))

    def on_click(self, event: events.Click) -> None:
        """The option under the mouse, or the next one."""
        left = 1
        if len(self.options) <= 6:
            for option in self.options:
                left += len(option) + 3
                if event.x < left:
                    self.value = option
                    self.post_message(self.Changed(self, option))
                    return
        self.action_step(1)
