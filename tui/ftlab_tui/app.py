"""The app: five modes, the keys that work everywhere, themes, and what the modes share.

It reads run directories and starts trainers through `ftlab.launch`; it never holds one. torch and
transformers are not imported here, nor by anything imported here.
"""

from __future__ import annotations

import functools
import gc
import os
import shlex
import subprocess
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import App, SystemCommand
from textual.binding import BindingType
from textual.screen import Screen
from textual.theme import Theme, ThemeProvider

from ftlab_tui import copying, keys, theme
from ftlab_tui.lab import Lab
from ftlab_tui.layout import Layout
from ftlab_tui.modes import MODES, loaders, mode
from ftlab_tui.widgets.palette import Palette

if TYPE_CHECKING:
    from ftlab.run import Run
    from ftlab_tui.monitor.screen import MonitorScreen
    from ftlab_tui.new.screen import NewScreen
    from ftlab_tui.widgets.modescreen import ModeScreen


class FtuiApp(App[None]):
    """ftui."""

    TITLE = "ftui"
    ENABLE_COMMAND_PALETTE = True
    BINDINGS: ClassVar[list[BindingType]] = keys.GLOBAL

    def __init__(
        self, lab: Lab | None = None, *, attach: Run | None = None, repeat: bool = False
    ) -> None:
        super().__init__()
        self.lab = lab or Lab()
        self.memory = Layout(self.lab.state, self.warn)
        self.attach, self.repeat = attach, repeat
        self._given = ""  # the theme that was set by the app and not by the person
        self._modes.update(loaders())
        for item in theme.THEMES:
            self.register_theme(item)

    def warn(self, text: str) -> None:
        """Tell of something that did not work and stops nothing."""
        self.notify(text, severity="warning", markup=False, timeout=10)

    def on_mount(self) -> None:
        """Take up theme and keys, and show the first mode."""
        fallback = theme.ANSI if theme.few_colours() else theme.DEFAULT
        chosen = self.memory.get("theme", os.environ.get("TEXTUAL_THEME") or fallback)
        self.theme = theme.fitting(chosen if chosen in self.available_themes else fallback)
        self._given = self.theme
        self.theme_changed_signal.subscribe(self, self._theme_chosen)
        keymap, wrong = keys.keymap(self.lab.state)
        self.set_keymap(keymap)
        if wrong:
            self.notify(wrong, severity="warning", timeout=10)
        if self.attach is not None:
            self.open_run(self.attach)
        else:
            self.switch_mode("home")
            if self.repeat:
                self.repeat_last()

    def _theme_chosen(self, chosen: Theme) -> None:
        """Remember it, unless it was not the person who chose, or nothing could be read with it."""
        given, self._given = self._given, ""
        fit = theme.fitting(chosen.name)
        if fit != chosen.name:
            self.warn(f"{chosen.name} has no colours of its own to show under NO_COLOR")
            self.theme = self._given = fit
        elif chosen.name != given:
            self.memory.set("theme", chosen.name)

    def on_ready(self) -> None:
        """From the first paint on garbage is collected, but for what has come to stay."""
        gc.freeze()
        gc.enable()

    @property
    def front(self) -> ModeScreen | None:
        """The mode's screen in front, or None while a dialog covers it."""
        from ftlab_tui.widgets.modescreen import ModeScreen

        return self.screen if isinstance(self.screen, ModeScreen) else None

    # -- what modes ask of each other -------------------------------------------------------------

    def open_run(self, run: Run) -> None:
        """Watch a run in Monitor."""
        self.switch_mode("monitor")
        cast("MonitorScreen", self.screen).show_run(run)

    def clone(self, text: str, origin: str) -> None:
        """Put a config into New; `origin` says where it came from, such as a run's name."""
        self.switch_mode("new")
        cast("NewScreen", self.screen).load_text(text, origin)

    def repeat_last(self) -> None:
        """Put the newest run's config into New."""
        from ftlab.errors import FtlabError
        from ftlab.run import Run

        try:
            run = Run.find("last", self.lab.runs_dir)
            self.clone(run.config_path.read_text(encoding="utf-8"), run.id)
        except (FtlabError, OSError) as error:
            self.notify(str(error), severity="warning", markup=False)

    def copy(self, name: str, text: str) -> str:
        """Copy to clipboard and file, and say where; the path of the file."""
        return copying.copy(self, self.lab.state, name, text)

    def edit(self, path: Path) -> bool:
        """Open a file in $EDITOR and wait; whether the editor could be run."""
        editor = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
        try:
            with self.suspend():
                subprocess.run([*editor, os.fspath(path)], check=False)
        except Exception as error:  # no such editor, or a driver that cannot give up the screen
            self.notify(
                f"{editor[0]} could not be run ({error}); the file is {path}", severity="error"
            )
            return False
        return True

    # -- keys -------------------------------------------------------------------------------------

    def action_mode(self, name: str) -> None:
        """A digit: go to a mode. A dialog is answered first."""
        if self.front is not None:
            self.switch_mode(name)

    async def action_back(self) -> None:
        """esc: out of the filter, one step back in the screen, to Home; never out of the app."""
        screen = self.front
        if screen is None:
            if len(self.screen_stack) > 1:
                self.pop_screen()
            return
        if screen.maximized is not None:
            screen.minimize()
        elif not (screen.close_filter() or screen.go_back()) and self.current_mode != "home":
            self.switch_mode("home")

    def action_help(self) -> None:
        """`?`: what this screen is for and which keys work here."""
        from ftlab_tui.widgets.help import Help, keys_of

        screen = self.front
        if screen is None:
            return
        about = mode(screen.MODE)
        live = keys_of(cast("Screen[object]", screen))
        moves = [(item.key, f"{item.title}: {item.help}") for item in MODES]
        always = [("ctrl+p", "find any command by name"), ("esc", "back, never out")]
        text = screen.HELP_TEXT or about.help
        self.push_screen(Help(about.title, text, [*live, *moves, *always]))

    def action_filter(self) -> None:
        """`/`: filter the list in front."""
        if self.front is not None:
            self.front.open_filter()

    def action_copy(self) -> None:
        """`y`: copy what the screen offers."""
        offered = self.front.copied() if self.front is not None else None
        if offered is None:
            self.notify("there is nothing to copy here")
        else:
            self.copy(*offered)

    def action_edit(self) -> None:
        """`e`: open the config in $EDITOR."""
        screen = self.front
        path = screen.edited() if screen is not None else None
        if screen is None or path is None:
            self.notify("there is no file to edit here")
        elif self.edit(path):
            screen.after_edit(path)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """`e` is offered where a screen has a file to edit."""
        if action == "edit" and self.screen_stack:
            screen = self.front
            return screen is not None and screen.can_edit()
        return super().check_action(action, parameters)

    def action_full(self) -> None:
        """`f`: the focused pane alone, and back."""
        screen = self.screen
        if screen.maximized is not None:
            screen.minimize()
        elif screen.focused is not None:
            screen.maximize(screen.focused)

    def action_command_palette(self) -> None:
        """ctrl+p: find any command by name."""
        if not isinstance(self.screen, Palette):
            self.push_screen(Palette(id="--command-palette"))

    def search_themes(self) -> None:
        """Choose the colours by name."""
        self.push_screen(Palette(providers=[ThemeProvider], placeholder="search for themes ..."))

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """The palette: every mode, and every key by name: of the screen, and of all of them."""
        for item in MODES:
            yield SystemCommand(
                item.title, item.help, lambda name=item.name: self.action_mode(name)
            )
        yield SystemCommand("Help", "the keys of this screen", self.action_help)
        yield SystemCommand("Filter", "narrow the list in front", self.action_filter)
        yield SystemCommand("Copy", "to the clipboard and a file", self.action_copy)
        yield SystemCommand("Edit", "open the config in $EDITOR", self.action_edit)
        yield SystemCommand("Theme", "choose the colours", self.action_change_theme)
        yield SystemCommand("Quit", "training goes on", self.action_quit)
        for name, help_text, act in self._own_commands(screen):
            yield SystemCommand(name, help_text, act)

    def _own_commands(
        self, screen: Screen[object]
    ) -> Iterable[tuple[str, str, Callable[[], Awaitable[bool]]]]:
        """What the screen's own keys do, with the key that does it without the palette."""
        for item in screen.active_bindings.values():
            binding = item.binding
            if item.node is not screen or not item.enabled or not binding.description:
                continue
            if binding.action.startswith(("app.", "screen.")):
                continue  # Textual's own: focus, copy of a selection
            key = self.get_key_display(binding)
            act = functools.partial(self.run_action, binding.action, screen)
            yield binding.description, f"{binding.tooltip or binding.description}   {key}", act
