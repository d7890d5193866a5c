"""events.jsonl: what happened, one JSON line per event, appended by the trainer, tailed by anyone.

Every line is `{"v": 1, "t": unix seconds, "kind": ..., ...}`. A line is one `write`; a reader takes
lines up to the last newline, so that a line being written, or cut off by a crash, is never an
error. JSON has no NaN: a float that is not finite is written as null and named in `"nonfinite"`,
and `read` puts it back. The module also holds the heartbeat. Standard library only.

Kinds: started{step, steps, resumed_from}, step{step, epoch, loss, grad_norm, lr, tokens,
trained_tokens, tokens_total, trained_total, seconds, tok_s, mem_bytes, metrics...},
eval{step, loss, perplexity, metrics...}, sample{step, prompt, text, reference},
checkpoint{step, path, bytes}, request{number, name}, answered{number, name, step},
warning{message}, error{message}, finished{state, step}.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from ftlab.atomic import clear_errors, plain, write_all
from ftlab.errors import FtlabError, Interrupted
from ftlab.process import Identity, monotonic
from ftlab.run import FINAL, Run

EVENTS_VERSION = 1
_CHUNK = 1 << 22  # bytes read at once, so that a long file needs no memory of its own size


class EventWriter:
    """Appends events; safe to share between threads. One writer per file: the trainer."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open for appending; a line that a crash cut off is removed.

        Raises:
            EnvironmentUnfit: the file cannot be written.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        with clear_errors(self.path):
            self._descriptor = os.open(
                self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666
            )
            _cut_torn_line(self._descriptor)

    def write(self, kind: str, **fields: Any) -> None:
        """Append one event; numpy and torch scalars, paths and NaN are welcome.

        Raises:
            FtlabError: the disk is full or the run is gone; the file keeps its former lines.
        """
        line = json.dumps(_encode(kind, fields), ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock, clear_errors(self.path):
            end = os.fstat(self._descriptor).st_size
            try:
                write_all(self._descriptor, line.encode("utf-8", "replace"))
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, end)
                raise

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

    def __enter__(self) -> EventWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class EventReader:
    """Follows a file of events by byte offset.

    `skipped` counts lines that were no events, `restarts` how often the file was found replaced.
    """

    def __init__(self, path: str | os.PathLike[str], offset: int = 0) -> None:
        self.path = Path(path)
        self.offset = offset
        self.skipped = 0
        self.restarts = 0
        self.size = 0  # bytes of the file at the last look
        self._inode: int | None = None

    def poll(self) -> list[dict[str, Any]]:
        """The events since the last call; [] when there are none or no file yet.

        A file that is shorter than the offset, or another one of that name, was replaced, and is
        read from its start.

        Raises:
            FtlabError: the file cannot be read.
        """
        return [event for batch in self.batches() for event in batch]

    def batches(self, size: int | None = None) -> Iterator[list[dict[str, Any]]]:
        """The same in pieces of about `size` bytes (4 MiB); whoever stops early goes on from there.

        Raises:
            FtlabError: the file cannot be read.
        """
        try:
            with self.path.open("rb") as file:
                self._look(os.fstat(file.fileno()))
                while block := self._block(file, size or _CHUNK):
                    self.offset += len(block)
                    yield self._parse(block)
        except FileNotFoundError:
            return
        except OSError as error:
            with clear_errors(self.path):
                raise error

    def _look(self, stat: os.stat_result) -> None:
        replaced = self._inode not in (None, stat.st_ino)
        if stat.st_size < self.offset or replaced:
            self.offset = 0
            self.restarts += 1
        self._inode, self.size = stat.st_ino, stat.st_size

    def _block(self, file: BinaryIO, size: int) -> bytes:
        """Whole lines from the offset on; sought anew each time, for the file may have grown."""
        file.seek(self.offset)
        return _whole_lines(file.read(size) + file.readline())

    def _parse(self, block: bytes) -> list[dict[str, Any]]:
        lines = [line for line in block.split(b"\n") if line.strip()]
        events = [event for event in _decode_all(lines) if event is not None]
        self.skipped += len(lines) - len(events)
        return events


def read(path: str | os.PathLike[str], offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The events from byte `offset` up to the last newline, and the offset to go on from.

    Lines that are no events are skipped (`EventReader.skipped` counts them); a missing file has no
    events.
    """
    reader = EventReader(path, offset)
    return reader.poll(), reader.offset


def stretches(
    path: str | os.PathLike[str], count: int = 240, size: int = 4096, tail: int = 1 << 16
) -> Iterator[list[dict[str, Any]]]:
    """Events of `count` stretches of `size` bytes, evenly spread, and of the last `tail` bytes.

    They tell the outline of a history that is too long to be read before something is shown. The
    first stretch begins with the file; a file of less than these stretches is given whole, as one.
    """
    try:
        with Path(path).open("rb") as file:
            end = os.fstat(file.fileno()).st_size - tail
            starts = [end * k // count for k in range(count)] if end > count * size else []
            for start in [*starts, end if starts else 0]:
                # A line in whose middle a stretch begins is left out.
                file.seek(max(0, start - 1))
                begun = file.readline() if start else b""
                room = max(1, size - len(begun)) if start < end and starts else -1
                block = _whole_lines(file.read(room))
                lines = [line for line in block.split(b"\n") if line.strip()]
                yield [event for event in _decode_all(lines) if event is not None]
    except OSError:
        return


def last(path: str | os.PathLike[str], kind: str = "step") -> dict[str, Any] | None:
    """The newest event of a kind among the last 256 KiB of the file; None when there is none."""
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - (1 << 18)))
            lines = _whole_lines(file.read()).split(b"\n")
    except OSError:
        return None
    for line in reversed(lines):
        event = _decode(line)
        if event is not None and event["kind"] == kind:
            return event
    return None


class Heartbeat:
    """Keeps status.json true while a trainer lives: a side thread writes it every `interval` s.

    Use as a context manager around everything the trainer does, under the run's lock:

        with run.lock(), Heartbeat(run, steps=plan.steps) as heartbeat:
            heartbeat.update(step=1)           # memory only, no disk
            heartbeat.finish("done")           # written at once

    Leaving the block without `finish` writes "stopped" after `Interrupted`, otherwise "failed".
    A fault of the disk does not stop training: the beat is tried again, `error` holds the last.
    """

    def __init__(
        self,
        run: Run,
        *,
        steps: int | None = None,
        interval: float = 2.0,
        process: Identity | None = None,
    ) -> None:
        """`process` is the one that answers for the run; by default the calling one."""
        self.run = run
        self.interval = interval
        self.error: FtlabError | None = None
        before = run.status()
        self._status = dataclasses.replace(
            before,
            **(process or Identity.mine()).to_dict(),
            state="running",
            steps=before.steps if steps is None else steps,
            message="",
        )
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="ftlab-heartbeat", daemon=True)

    def start(self) -> Heartbeat:
        """Write "running" and begin to beat. Raises FtlabError when the run cannot be written."""
        self._write(durable=True)
        self._thread.start()
        return self

    def update(
        self, *, step: int | None = None, steps: int | None = None, message: str | None = None
    ) -> None:
        """Change what the next beat says. Costs no disk access."""
        given = {"step": step, "steps": steps, "message": message}
        changes: dict[str, Any] = {name: v for name, v in given.items() if v is not None}
        with self._lock:
            self._status = dataclasses.replace(self._status, updated=time.time(), **changes)

    def finish(self, state: str, message: str = "") -> None:
        """End the beat and write the final state: done, failed or stopped."""
        if state not in FINAL:
            raise ValueError(f"a run ends as {', '.join(FINAL)}, not {state!r}")
        self._end()
        self._status = dataclasses.replace(
            self._status, state=state, message=message, updated=time.time()
        )
        self._write(durable=True)

    def __enter__(self) -> Heartbeat:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._ended.is_set():
            return
        stopped = isinstance(error, (Interrupted, KeyboardInterrupt))
        reason = f"{type(error).__name__}: {error}" if error else "ended without a result"
        with contextlib.suppress(FtlabError):
            self.finish("stopped" if stopped else "failed", reason)

    def _beat(self) -> None:
        while not self._ended.wait(self.interval):
            try:
                self._write(durable=False)
                self.error = None
            except FtlabError as error:
                self.error = error

    def _write(self, *, durable: bool) -> None:
        with self._lock:
            self._status = dataclasses.replace(
                self._status, heartbeat=time.time(), monotonic=monotonic()
            )
            self.run.write_status(self._status, durable=durable)

    def _end(self) -> None:
        """Stop the thread before the last write, so that no late beat can overwrite it."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()


def _encode(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    values = {name: _scalar(value) for name, value in fields.items()}
    odd = {n: repr(v) for n, v in values.items() if isinstance(v, float) and v - v != 0}
    event = {"v": EVENTS_VERSION, "t": round(time.time(), 3), "kind": kind, **plain(values)}
    return {**event, "nonfinite": odd} if odd else event


def _scalar(value: Any) -> Any:
    """Python's own number for a numpy or torch scalar; anything else as it is."""
    return value.item() if hasattr(value, "item") and not isinstance(value, Mapping) else value


def _decode_all(lines: list[bytes]) -> list[dict[str, Any] | None]:
    """Every line decoded: all in one go, which is faster, or where that fails one by one."""
    try:
        values = json.loads(b"[" + b",".join(lines) + b"]")
    except (ValueError, RecursionError):
        values = []
    if len(values) != len(lines):
        return [_decode(line) for line in lines]
    return [_event(value) for value in values]


def _decode(line: bytes) -> dict[str, Any] | None:
    try:
        return _event(json.loads(line))
    except (ValueError, RecursionError):
        return None


def _event(value: Any) -> dict[str, Any] | None:
    """The value as an event, its floats that JSON has no word for put back; None for no event."""
    if not isinstance(value, dict) or not isinstance(value.get("kind"), str):
        return None
    if "nonfinite" in value:
        try:
            value.update({name: float(text) for name, text in value.pop("nonfinite").items()})
        except (ValueError, AttributeError, TypeError):
            return None
    return value


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]


def _cut_torn_line(descriptor: int) -> None:
    """Remove what follows the last newline; no reader has gone past that newline."""
    end = os.fstat(descriptor).st_size
    start = end
    while start > 0:
        begin = max(0, start - _CHUNK)
        newline = os.pread(descriptor, start - begin, begin).rfind(b"\n")
        if newline >= 0:
            start = begin + newline + 1
            break
        start = begin
    if start < end:
        os.ftruncate(descriptor, start)
