"""Follow a run: its events as they come, a progress bar on a terminal, the time that is left.

The bar is silent when the stream is no terminal; warnings and errors are said anyway. The time left
counts the steps of this session only, so that it is right after a resume too. Standard library.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from ftlab.errors import FtlabError
from ftlab.events import EventReader
from ftlab.run import LIVE, Run, Status

_WINDOW = 200  # logged steps that the pace is measured over
_JUMP = 3600.0  # seconds between two logged steps that are taken for a suspended machine or a clock
_REDRAW = 0.1  # seconds between two drawings: a fast trainer does not flood a slow terminal
Event = Mapping[str, Any]


def follow(
    run: Run, *, offset: int = 0, interval: float = 0.2
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield (liveness, new events) every `interval` seconds until the run is not live.

    The liveness is taken before the events are read, so the last turn has the last events.

    Raises:
        FtlabError: the run's folder was deleted or moved.
    """
    reader = EventReader(run.events_path, offset)
    while True:
        state = run.liveness()
        if state not in LIVE and not run.path.is_dir():
            raise FtlabError(f"{run.path} is gone: it was deleted or moved")
        yield state, reader.poll()
        if state not in LIVE:
            return
        time.sleep(interval)


class Pace:
    """How fast a session goes: seconds per step over its last logged steps."""

    def __init__(self) -> None:
        self.step = 0
        self._marks: deque[tuple[float, int]] = deque(maxlen=_WINDOW)
        self._first: float | None = None  # seconds of the only step so far

    def feed(self, event: Event) -> None:
        """Take an event; "started" begins a new session and forgets the pace of the old one."""
        if event["kind"] == "started":
            self._marks.clear()
            self._first = None
            self.step = int(event.get("step") or 0)
        elif event["kind"] == "step":
            self.step = int(event.get("step") or 0)
            moment = float(event["t"])
            if self._marks and not self._plausible(moment - self._marks[-1][0]):
                self._marks.clear()  # the clock was set, or the machine slept
            self._marks.append((moment, self.step))
            self._first = event.get("seconds")

    def seconds_per_step(self) -> float | None:
        """None before the first step of the session."""
        if len(self._marks) < 2:
            return self._first if self._marks else None
        (t0, first), (t1, last) = self._marks[0], self._marks[-1]
        return (t1 - t0) / (last - first) if last > first else None

    def _plausible(self, gap: float) -> bool:
        """Whether two steps can lie this far apart: forwards, and not hours more than usual."""
        return 0 <= gap < max(_JUMP, 20 * (self.seconds_per_step() or 0.0))

    def left(self, steps: int, now: float) -> float | None:
        """Seconds until step `steps`, given that the time is `now`."""
        each = self.seconds_per_step()
        if each is None:
            return None
        return max(0.0, (steps - self.step) * each - max(0.0, now - self._marks[-1][0]))


class Bar:
    """Tells a run on a stream: one line that is redrawn, and lines above it that stay."""

    def __init__(self, stream: TextIO, *, terminal: bool | None = None) -> None:
        """`terminal` overrides whether the stream is one."""
        self.stream = stream
        self.terminal = stream.isatty() if terminal is None else terminal
        self.pace = Pace()
        self._step: Event = {}
        self._steps = 0
        self._drawn_at = 0.0
        self._drawn = False

    def event(self, event: Event) -> None:
        """Take an event: steps move the bar, the rest is said above it."""
        kind = event["kind"]
        self.pace.feed(event)
        if kind == "started":
            self._steps, self._step = int(event.get("steps") or 0), {}
        elif kind == "step":
            self._step = event
        always = kind in ("warning", "error")
        if always or (self.terminal and kind in ("eval", "sample", "checkpoint")):
            self.say(describe(event))

    def tick(self, state: str, status: Status) -> None:
        """Redraw, at most ten times a second."""
        moment = time.monotonic()
        if not self.terminal or moment - self._drawn_at < _REDRAW:
            return
        self._drawn_at, self._drawn = moment, True
        line = self.line(state, status, time.time(), width(self.stream))
        self.stream.write(f"\r{line}\x1b[K")
        self.stream.flush()

    def say(self, text: str) -> None:
        """Write lines that stay, above the bar."""
        self.clear()
        self.stream.write(f"{text}\n")
        self.stream.flush()

    def clear(self) -> None:
        """Remove the bar."""
        if self._drawn:
            self.stream.write("\r\x1b[K")
            self.stream.flush()
            self._drawn = False

    def line(self, state: str, status: Status, now: float, columns: int) -> str:
        """The bar as text of at most `columns` characters."""
        steps = self._steps or status.steps
        if not self._step:
            return f"{status.message or 'starting'} ..."[: columns - 1]
        step = self.pace.step
        share = min(1.0, step / steps) if steps else 0.0
        head = f"step {step}/{steps} "
        tail = f" {share:4.0%}  " + "  ".join(_figures(self._step, self.pace.left(steps, now)))
        if state == "stalled":
            tail = f" {share:4.0%}  no sign of life for {status.silence():.0f} s"
        room = min(30, columns - 1 - len(head) - len(tail))
        bar = _blocks(share, room, self.stream) if room >= 5 else ""
        return f"{head}{bar}{tail}"[: columns - 1]


def describe(event: Event) -> str:
    """One event as a line for people."""
    kind, step = str(event["kind"]), event.get("step")
    at = f"step {step}: " if step is not None else ""
    if kind in ("warning", "error"):
        return f"{kind}: {event.get('message', '')}"
    if kind == "step":
        return at + "  ".join(_figures(event, None))
    if kind == "eval":
        return f"{at}evaluation: {_numbers(event)}"
    if kind == "sample":
        return f"{at}sample: {_short(event.get('prompt'))} -> {_short(event.get('text'))}"
    if kind == "checkpoint":
        return f"{at}checkpoint saved ({(event.get('bytes') or 0) / 2**20:.1f} MiB)"
    if kind == "started":
        resumed = event.get("resumed_from")
        return (
            f"started at step {step} of {event.get('steps')}"
            if resumed is None
            else (f"resumed from step {resumed} of {event.get('steps')}")
        )
    if kind in ("request", "answered"):
        return f"{at}request {event.get('number')} ({event.get('name')}): {kind}"
    if kind == "finished":
        return f"{at}{event.get('state')}"
    return f"{at}{kind}: {_numbers(event)}"


def duration(seconds: float) -> str:
    """Seconds as people say them: 0:42, 12:05, 3:07:30, 2d 03:10:00."""
    whole = int(seconds + 0.5)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if days:
        return f"{days}d {hours:02}:{minutes:02}:{rest:02}"
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def width(stream: TextIO) -> int:
    """Columns of the terminal behind a stream; 80 where that is unknown."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def _figures(event: Event, left: float | None) -> Iterator[str]:
    loss, speed = event.get("loss"), event.get("tok_s")
    if loss is not None:
        yield f"loss {loss:.4g}"
    for name in ("reward_accuracy", "accuracy"):
        if isinstance(event.get(name), float):
            yield f"accuracy {event[name]:.2f}"
            break
    if speed is not None:
        yield f"{speed:,.0f} tok/s"
    if left is not None:
        yield f"ETA {duration(left)}"


def _numbers(event: Event) -> str:
    hidden = {"v", "t", "kind", "step"}
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in event.items()
        if name not in hidden
    )


def _short(text: object, length: int = 70) -> str:
    flat = " ".join(str(text or "").split())
    return flat if len(flat) <= length else flat[: length - 3] + "..."


def _blocks(share: float, room: int, stream: TextIO) -> str:
    full = int(share * room)
    try:
        "━─".encode(stream.encoding or "utf-8")
        return "━" * full + "─" * (room - full)
    except (UnicodeEncodeError, LookupError):
        return "#" * full + "." * (room - full)
