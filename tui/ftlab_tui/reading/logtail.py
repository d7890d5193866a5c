"""log.txt from its end: only what is shown is read, whether the file has ten lines or millions.

`LogTail` keeps a stretch of lines that ends at the end of the file; `older` adds earlier ones,
`poll` adds new ones. A progress bar that redraws one line with carriage returns counts once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

from ftlab.atomic import storage_error

BLOCK = 1 << 16
LIMIT = 20_000  # lines kept at most
LONGEST = 2000  # characters of a line that are kept
_WARNING = re.compile(r"(warn(ing)?|error|fatal|critical|exception|traceback)\b|Xid", re.I)
_ESCAPES = re.compile(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)")
_CONTROL = {code: None for code in (*range(32), *range(127, 160)) if code != 9} | {9: "    "}


class LogTail:
    """The end of a text file that grows. `fault` says why it cannot be read, "" when it can."""

    def __init__(self, path: Path, lines: int = 500) -> None:
        self.path = path
        self.want = lines
        self.lines: list[str] = []
        self.fault = ""
        self.size = 0
        self._start = 0  # offset of the first line kept
        self._end = 0  # offset after the last complete line kept
        self._inode: int | None = None

    @property
    def at_start(self) -> bool:
        """Whether the first line kept is the first of the file."""
        return self._start == 0

    def poll(self) -> bool:
        """Read what was added; whether anything changed."""
        try:
            with self.path.open("rb") as file:
                stat = os.fstat(file.fileno())
                self.size, self.fault = stat.st_size, ""
                if self._inode != stat.st_ino or stat.st_size < self._end:
                    self._inode = stat.st_ino
                    return self._begin(file.fileno())
                if stat.st_size == self._end:
                    return False
                if stat.st_size - self._end > 4 << 20:  # far behind: begin at the end again
                    return self._begin(file.fileno())
                return self._forward(file.fileno())
        except FileNotFoundError:
            changed = bool(self.lines)
            self.lines, self._start, self._end, self._inode, self.size = [], 0, 0, None, 0
            return changed
        except OSError as error:
            self.fault = str(storage_error(error, self.path))
            return False

    def older(self, count: int = 500, fits: Callable[[str], bool] | None = None,
              most: int = 64) -> int:  # fmt: skip
        """Add up to about `count` earlier lines that fit; how many lines were added.

        Args:
            fits: counts only these, yet keeps all, so that the view stays whole.
            most: blocks of 64 KiB that are read at most.
        """
        added = fitting = 0
        try:
            with self.path.open("rb") as file:
                while self._start > 0 and fitting < count and most > 0 and self._room():
                    lines = self._backward(file.fileno())
                    added, most = added + len(lines), most - 1
                    fitting += sum(1 for line in lines if fits is None or fits(line))
        except OSError as error:
            self.fault = str(storage_error(error, self.path))
        return added

    def _room(self) -> bool:
        return len(self.lines) < LIMIT

    def _begin(self, descriptor: int) -> bool:
        self.lines = []
        self._end = self._start = _line_end(descriptor, self.size)
        while self._start > 0 and len(self.lines) < self.want:
            self._backward(descriptor)
        return True

    def _backward(self, descriptor: int) -> list[str]:
        """Read one more block before the first line kept."""
        begin = max(0, self._start - BLOCK)
        data = os.pread(descriptor, self._start - begin, begin)
        if begin > 0:
            cut = data.find(b"\n", 0, len(data) - 1) + 1
            if cut == 0:  # one line longer than a block: its end will do
                cut = max(0, len(data) - LONGEST)
            data, begin = data[cut:], begin + cut
        lines = _texts(data)
        self.lines[:0] = lines
        self._start = begin
        return lines

    def _forward(self, descriptor: int) -> bool:
        data = os.pread(descriptor, self.size - self._end, self._end)
        end = data.rfind(b"\n") + 1
        if end == 0:
            return False
        self.lines.extend(_texts(data[:end]))
        self._end += end
        if len(self.lines) > LIMIT:  # what is dropped can be read again
            dropped = len(self.lines) - LIMIT * 3 // 4
            del self.lines[:dropped]
            self._start = max(self._start, self._end - 1)
            self._start = _start_of(descriptor, self._end, len(self.lines))
        return True


def is_warning(line: str) -> bool:
    """Whether a line speaks of a warning or an error."""
    return _WARNING.search(line) is not None


def clean(line: str) -> str:
    """A line without colours and control characters, and of a length that can be shown."""
    if "\r" in line:
        line = line.rstrip("\r").rpartition("\r")[2]
    if "\x1b" in line:
        line = _ESCAPES.sub("", line)
    return line.translate(_CONTROL)[:LONGEST]


def _texts(data: bytes) -> list[str]:
    return [clean(line) for line in data.decode("utf-8", "replace").removesuffix("\n").split("\n")]


def _line_end(descriptor: int, size: int) -> int:
    """The offset after the last newline; the end of the file where there is none near it."""
    begin = max(0, size - BLOCK)
    found = os.pread(descriptor, size - begin, begin).rfind(b"\n")
    return begin + found + 1 if found >= 0 else size


def _start_of(descriptor: int, end: int, lines: int) -> int:
    """The offset at which the last `lines` lines before `end` begin."""
    position = end
    while position > 0 and lines > 0:
        begin = max(0, position - BLOCK)
        data = os.pread(descriptor, position - begin, begin)
        count = data.count(b"\n") - (1 if position == end else 0)
        if count < lines:
            lines -= count
            position = begin
            continue
        found = len(data) - (1 if position == end else 0)
        for _ in range(lines):
            found = data.rfind(b"\n", 0, found)
        return begin + found + 1
    return position
