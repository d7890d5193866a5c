"""What the app works on: the folder of runs, its own state folder, the clock and the host's name.

Tests give a frozen clock and host, so that a screen is the same on every machine.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path


def state_dir() -> Path:
    """Where layout, copies and keys are kept: `$XDG_STATE_HOME/ftlab`, not created."""
    chosen = os.environ.get("XDG_STATE_HOME")
    base = Path(chosen).expanduser() if chosen else Path.home() / ".local" / "state"
    return base / "ftlab"


@dataclass(frozen=True)
class Lab:
    """The surroundings of one app.

    Attributes:
        runs_dir: where run directories lie.
        state: folder of layout, copied texts and user keys.
        now: unix seconds.
        host: name of this machine, as screens show it.
    """

    runs_dir: Path = field(default_factory=lambda: Path(os.environ.get("FTLAB_RUNS") or "runs"))
    state: Path = field(default_factory=state_dir)
    now: Callable[[], float] = time.time
    host: str = field(default_factory=socket.gethostname)
