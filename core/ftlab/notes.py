"""Tags and a note that a person gives a run: notes.json in its directory, written by viewers.

The trainer neither reads nor writes it. Standard library only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.run import Run

VERSION = 1


@dataclass(frozen=True, slots=True)
class Notes:
    """What a person wrote about a run."""

    tags: tuple[str, ...] = ()
    text: str = ""


def path(run: Run) -> Path:
    """Where the notes of a run lie."""
    return run.path / "notes.json"


def read(run: Run) -> Notes:
    """The notes of a run; empty ones when there are none, or none that can be read."""
    try:
        value = atomic.read_json(path(run))
    except FtlabError:
        return Notes()
    tags, text = value.get("tags"), value.get("text")
    listed = tags if isinstance(tags, list) else []
    return Notes(parse_tags(" ".join(map(str, listed))), text if isinstance(text, str) else "")


def write(run: Run, notes: Notes) -> None:
    """Replace the notes of a run.

    Raises:
        FtlabError: the run is gone, or cannot be written.
    """
    value = {"version": VERSION, "tags": list(notes.tags), "text": notes.text}
    atomic.write_json(path(run), value)


def parse_tags(text: str) -> tuple[str, ...]:
    """Words separated by spaces or commas, each once, in the order given."""
    return _unique(word.strip("#") for word in re.split(r"[\s,]+", text))


def _unique(words: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word for word in words if word))
