"""Requests to a running trainer: files renamed into control/, answered between two steps.

A request is `control/NNNN-name.json`, numbered in the order of asking across all processes that
ask. The trainer takes it by moving it into control/taken/, so that it is acted on once, and answers
with an event that carries the number. A bare file `control/stop` made by hand counts as well.
Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftlab.atomic import clear_errors, plain, storage_error, write_all
from ftlab.errors import ConfigError, FtlabError
from ftlab.run import Run

NAMES = ("stop", "save", "eval", "sample")
_FILE = re.compile(r"(\d{4,})-([a-z_]+)\.json\Z")
_NUMBER = re.compile(r"\.?(\d{4,})[-.]")


@dataclass(frozen=True, slots=True)
class Request:
    """One thing asked of the trainer. `number` is 0 for a file made by hand."""

    number: int
    name: str
    args: Mapping[str, Any] = field(default_factory=dict)


def request(run: Run, name: str, **args: Any) -> int:
    """Ask the trainer of `run` for something; the number that its answer will carry.

    Raises:
        ConfigError: `name` is not one of NAMES.
        FtlabError: the run is gone or cannot be written.
    """
    if name not in NAMES:
        raise ConfigError(f"unknown request {name!r}; a run understands {', '.join(NAMES)}")
    content = json.dumps({"version": 1, "t": time.time(), "args": plain(args)}) + "\n"
    folder = run.control_dir
    with clear_errors(folder):
        number, beside, descriptor = _reserve(folder)
        try:
            write_all(descriptor, content.encode())
            os.fsync(descriptor)
            os.rename(beside, folder / f"{number:04d}-{name}.json")
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(beside)
            raise
        finally:
            os.close(descriptor)
    return number


class Inbox:
    """The trainer's end: each request is handed out once, in order."""

    def __init__(self, run: Run) -> None:
        self._folder = run.control_dir
        self._taken = self._folder / "taken"
        self._seen: set[str] = set()  # guards against a folder from which nothing can be moved

    def poll(self) -> list[Request]:
        """The requests that came since the last call, in the order of their numbers.

        One listing of a folder: cheap enough for every step.
        """
        try:
            names = [name for name in os.listdir(self._folder) if name not in self._seen]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise storage_error(error, self._folder) from error
        parsed = ((_parse(name), name) for name in names)
        waiting = sorted((r.number, r.name, file) for r, file in parsed if r)
        return [self._take(number, name, file) for number, name, file in waiting]

    def discard(self) -> list[Request]:
        """Take what was asked of an earlier trainer of this run, unanswered, out of the way."""
        return self.poll()

    def _take(self, number: int, name: str, file: str) -> Request:
        path = self._folder / file
        args = _args(path)
        try:
            self._taken.mkdir(exist_ok=True)
            os.replace(path, self._taken / file)
        except OSError:
            self._seen.add(file)
        return Request(number, name, args)


def _reserve(folder: Path) -> tuple[int, str, int]:
    """The next free number, held by an open hidden file that becomes the request.

    Two processes that ask at once: the hidden file is made exclusively, and whoever finds its
    number already used after making it tries the next.
    """
    while True:
        number = max(_numbers(folder), default=0) + 1
        beside = os.fspath(folder / f".{number:04d}.new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except FileExistsError:
            continue
        if sum(1 for other in _numbers(folder) if other == number) == 1:
            return number, beside, descriptor
        os.close(descriptor)
        os.unlink(beside)


def _numbers(folder: Path) -> Iterator[int]:
    """Every number in use. control/ is listed before control/taken/: files move that way."""
    names = os.listdir(folder)
    with contextlib.suppress(FileNotFoundError):
        names += os.listdir(folder / "taken")
    for name in names:
        if match := _NUMBER.match(name):
            yield int(match[1])


def _parse(file: str) -> Request | None:
    if match := _FILE.match(file):
        return Request(int(match[1]), match[2])
    return Request(0, file) if file in NAMES else None


def _args(path: Path) -> Mapping[str, Any]:
    """The arguments of a request; a request that cannot be read has none, its name is enough."""
    with contextlib.suppress(OSError, ValueError, FtlabError):
        value = json.loads(path.read_bytes())
        if isinstance(value, dict) and isinstance(value.get("args"), dict):
            return dict(value["args"])
    return {}
