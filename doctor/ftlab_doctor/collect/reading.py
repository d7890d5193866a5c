"""Reading files without surprises: bounded, never raising, absent told from unreadable."""

from __future__ import annotations

import os
from typing import Any, Literal

LIMIT = 64 * 1024


def text(path: str, limit: int = LIMIT) -> str | Literal[False, True]:
    """The beginning of a file; False if it is absent, True if it is there but cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read(limit).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def names(folder: str) -> list[str] | Literal[False]:
    """What lies in a folder, sorted; False if there is no such folder or it is closed."""
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return False


def which(program: str) -> str | None:
    """Where a shell would find a program. (shutil does more, and takes its time to be imported.)"""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    for folder in [""] if os.path.dirname(program) else folders:
        path = os.path.join(folder, program)
        if os.access(path, os.X_OK) and os.path.isfile(path):
            return path
    return None


def put(facts: dict[str, Any], section: str, name: str, value: object) -> None:
    """Store one fact."""
    facts.setdefault(section, {})[name] = value
