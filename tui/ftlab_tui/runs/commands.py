"""Commands of ftrun run for the person: as children that write to files, their words shown.

A child never writes to a pipe, so that it goes on when the app is closed. A command that this
version of ftrun does not have is said to be missing; nothing is tried.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ftlab.cli import COMMANDS


@dataclass(slots=True, weakref_slot=True)
class Child:
    """A command that was started."""

    words: str  # the command as a person would type it
    output: Path
    process: subprocess.Popen[bytes] | None
    fault: str = ""

    def ended(self) -> int | None:
        """Its exit code; None while it runs."""
        if self.process is None:
            return 1
        return self.process.poll()

    def last_words(self, lines: int = 3) -> str:
        """The end of what it said."""
        return "\n".join(self._said()[-lines:]) or self.fault

    def first_words(self, lines: int = 3) -> str:
        """The beginning of what it said."""
        return "\n".join(self._said()[:lines]) or self.fault

    def _said(self) -> list[str]:
        try:
            with self.output.open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - (1 << 16)))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [line.rstrip() for line in text.splitlines() if line.strip()]


def available(name: str) -> bool:
    """Whether this version of ftrun has the command."""
    return name in COMMANDS


def missing(name: str) -> str:
    """What to say when it has not."""
    return f"this version of ftrun has no command `{name}`"


def start(arguments: Sequence[str], state: Path) -> Child:
    """Start `ftrun ARGUMENTS` detached; its output goes into the app's state folder.

    Where nothing can be written there, a full disk above all, it goes into memory: why a command
    failed is worth most then.
    """
    words = shlex.join(["ftrun", *arguments])
    name = f"{time.strftime('%m%d-%H%M%S')}-{arguments[0]}-{os.getpid()}.txt"
    output, descriptor = state / "commands" / name, -1
    try:
        try:
            file = _writable(output)
        except OSError:
            descriptor = os.memfd_create(name)
            output = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
            file = output.open("ab")
        with file:
            process = subprocess.Popen(
                [sys.executable, "-m", "ftlab", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, "PYTHONSAFEPATH": "1"},
            )
    except OSError as error:
        return Child(words, output, None, f"cannot start {words}: {error.strerror}")
    child = Child(words, output, process)
    if descriptor >= 0:  # memory has no other name: held while the child is spoken of
        weakref.finalize(child, os.close, descriptor)
    return child


def _writable(output: Path) -> BinaryIO:
    """The file, opened and proven to take text: an empty one can be made on a full disk too."""
    output.parent.mkdir(parents=True, exist_ok=True)
    file = output.open("ab")
    try:
        file.write(b"\n")
        file.flush()
    except OSError:
        file.close()
        raise
    return file
