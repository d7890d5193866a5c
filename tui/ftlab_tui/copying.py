"""Copy a text: to the terminal's clipboard, and into a file whose path is shown.

The clipboard goes by OSC 52, which works over ssh but not in every terminal, and nobody can tell
whether it did; the file always works.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftlab_tui.names import short

if TYPE_CHECKING:
    from textual.app import App

KEPT = 20


def copy(app: App[Any], state: Path, name: str, text: str) -> str:
    """Copy `text` and say where its file is; the file's path, "" when none could be written."""
    app.copy_to_clipboard(text)
    try:
        path = write(state / "copied", name, text)
    except OSError as error:
        app.notify(f"copied {name}; no file: {error.strerror}", severity="warning")
        return ""
    app.notify(short(path), title=f"copied {name}", timeout=6)
    return str(path)


def write(folder: Path, name: str, text: str) -> Path:
    """Write the text into `folder` under a name made from `name`; only the newest files stay."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "text"
    path = folder / (stem if "." in stem else f"{stem}.txt")
    path.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    files = sorted(folder.iterdir(), key=lambda file: file.stat().st_mtime)
    for old in files[:-KEPT]:
        old.unlink(missing_ok=True)
    return path
