"""The five modes: name, key, title, and where the screen is; a screen is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftlab_tui.widgets.modescreen import ModeScreen


@dataclass(frozen=True, slots=True)
class Mode:
    """One mode of the app."""

    name: str
    key: str
    title: str
    screen: str  # "module:Class"
    help: str

    def load(self) -> ModeScreen:
        """Import the screen's module and make the screen."""
        module, _, cls = self.screen.partition(":")
        made: ModeScreen = getattr(importlib.import_module(module), cls)()
        return made


MODES = (
    Mode("home", "1", "Home", "ftlab_tui.home.screen:HomeScreen", "what there is and what to do"),
    Mode("new", "2", "New", "ftlab_tui.new.screen:NewScreen", "set up a run in four steps"),
    Mode(
        "monitor",
        "3",
        "Monitor",
        "ftlab_tui.monitor.screen:MonitorScreen",
        "watch a run",
    ),
    Mode("runs", "4", "Runs", "ftlab_tui.runs.screen:RunsScreen", "compare, resume, tidy up"),
    Mode(
        "doctor",
        "5",
        "Doctor",
        "ftlab_tui.doctor.screen:DoctorScreen",
        "is this machine fit",
    ),
)


def loaders() -> dict[str, Callable[[], ModeScreen]]:
    """Mode name -> what makes its screen, as Textual's `MODES` wants it."""
    return {mode.name: mode.load for mode in MODES}


def mode(name: str) -> Mode:
    """The mode of that name."""
    return next(item for item in MODES if item.name == name)
