"""Completes the path that is typed into a field: the right arrow takes what is shown dimly."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from textual.suggester import Suggester

MOST = 2000  # entries of a folder that are looked at


class PathSuggester(Suggester):
    """Suggests the first folder, or file that `wanted`, whose name begins as typed.

    A name that exists nowhere, such as a hub id, gets no suggestion.
    """

    def __init__(self, wanted: Callable[[Path], bool]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self.wanted = wanted

    async def get_suggestion(self, value: str) -> str | None:
        """The whole path, or None."""
        folder, _, begun = value.rpartition("/")
        if not value or (not folder and not begun):
            return None
        place = Path(os.path.expanduser(folder or ("/" if value.startswith("/") else ".")))
        for path in _entries(place):
            name = path.name
            if not name.startswith(begun) or (name.startswith(".") and not begun):
                continue
            if path.is_dir():
                return value[: len(value) - len(begun)] + name + "/"
            if self.wanted(path) and name != begun:
                return value[: len(value) - len(begun)] + name
        return None


def _entries(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            names = [entry.name for entry, _ in zip(found, range(MOST), strict=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names)]
