"""What the app remembers between starts: theme, Simple or Advanced, pane sizes, last choices.

One JSON file in the state folder. A file that cannot be read or written never stops the app.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftlab import atomic
from ftlab.errors import FtlabError


class Layout:
    """A small dictionary that is saved at every change; values are JSON."""

    def __init__(self, state: Path, tell: Callable[[str], object] = lambda fault: None) -> None:
        self.path = state / "layout.json"
        self.tell = tell
        self.told = False
        self.values: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            read = json.loads(self.path.read_text(encoding="utf-8"))
            self.values = read if isinstance(read, dict) else {}

    def get(self, name: str, default: Any) -> Any:
        """The saved value if it has the default's type, else the default."""
        value = self.values.get(name, default)
        return value if default is None or isinstance(value, type(default)) else default

    def set(self, name: str, value: Any) -> None:
        """Remember a value and save the file; where it cannot be saved, that is told once."""
        if name in self.values and self.values[name] == value:
            return
        self.values[name] = value
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            atomic.write_json(self.path, self.values, durable=False)
        except (OSError, FtlabError) as error:
            if not self.told:
                self.told = True
                self.tell(f"remembered until the app ends: {error}")
