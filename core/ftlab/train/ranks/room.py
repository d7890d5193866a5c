"""The folder that the processes of one run share: who each is, and why one gave up.

It lies outside the run directory, which has one writer, and lasts as long as the attempt. What the
first process cannot say itself (it was killed, or lost the others) is found here. Standard library
only.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.process import Identity

VARIABLE = "FTLAB_RANKS"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a process gave up."""

    rank: int
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Room:
    """The folder of an attempt."""

    path: Path

    def enter(self, rank: int) -> None:
        """Say which process `rank` is."""
        atomic.write_json(self._file("rank", rank), Identity.mine().to_dict())

    def process(self, rank: int) -> Identity | None:
        """The process of a rank; None while it has not entered."""
        try:
            return Identity.from_dict(atomic.read_json(self._file("rank", rank)))
        except FtlabError:
            return None

    def fail(self, fault: Fault) -> None:
        """Say why a process gives up."""
        entry = {**dataclasses.asdict(fault), "t": time.time()}
        atomic.write_json(self._file("fault", fault.rank), entry)

    def leave(self, rank: int) -> None:
        """Say that a process ends because all do, or because it lost the others."""
        atomic.write_json(self._file("left", rank), {})

    def fault(self, size: int) -> Fault | None:
        """The first fault of all: as its process told it, else a process that is gone."""
        told = []
        for rank in range(size):
            try:
                told.append(atomic.read_json(self._file("fault", rank)))
            except FtlabError:
                continue
        if told:
            first = min(told, key=lambda entry: entry["t"])
            return Fault(int(first["rank"]), int(first["code"]), str(first["reason"]))
        return next(self._gone(size), None)

    def wait_for_fault(self, size: int, seconds: float) -> Fault | None:
        """The same; a process that died is not noticed by all at once."""
        until = time.monotonic() + seconds
        while (found := self.fault(size)) is None and time.monotonic() < until:
            time.sleep(0.05)
        return found

    def _gone(self, size: int) -> Iterator[Fault]:
        for rank in range(size):
            process = self.process(rank)
            if process is None or self._file("left", rank).exists() or process.alive() is not False:
                continue
            yield Fault(
                rank,
                FtlabError.exit_code,
                f"process {process.pid} was killed; where nobody did it, the machine ran out of "
                "memory (`dmesg` says so)",
            )

    def _file(self, kind: str, rank: int) -> Path:
        return self.path / f"{kind}-{rank}.json"
