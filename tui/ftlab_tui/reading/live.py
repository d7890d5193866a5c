"""One run as a viewer sees it: events by byte offset, figures as a table, state, time that is left.

`LiveRun.poll` takes what is new for a few milliseconds and says whether more waits, so that a long
history is read between two paints; `outline` tells meanwhile how it went. Whatever is odd in the
directory (lines that are no events, unknown kinds, a clock that was set, a run that was deleted) is
counted and told, never raised.
"""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

from ftlab import atomic
from ftlab.errors import FtlabError
from ftlab.events import EventReader, stretches
from ftlab.progress import Pace
from ftlab.run import LIVE, Run, Status
from ftlab_tui.reading.series import NAN, Table

BLOCK = 1 << 16  # bytes decoded between two looks at the clock: about 1 ms
LONG = 4 << 20  # bytes of events that take too long to be read before something is shown
KEPT = 400  # events other than steps that are remembered
Event = Mapping[str, Any]

_NOT_METRICS = frozenset({"v", "t", "kind", "step"})
_KNOWN = frozenset({
    "started", "step", "eval", "sample", "checkpoint", "request", "answered", "warning", "error",
    "finished",
})  # fmt: skip
_CLOCK_BACK = 5.0  # seconds that the clock may go back between two events unmentioned


@dataclass(slots=True)
class Session:
    """One process that trained this run: from its start to its last word."""

    began: float
    first_step: int
    ended: float
    last_step: int


@dataclass(slots=True)
class Oddities:
    """What was found that should not be there."""

    skipped: int = 0  # lines that are no events
    unknown: Counter[str] = field(default_factory=Counter)  # kinds of a newer version
    clock_jumps: int = 0
    restarts: int = 0  # the file was replaced
    fault: str = ""  # why the directory cannot be read now

    def describe(self) -> list[str]:
        """A line each, for people."""
        lines = [self.fault] if self.fault else []
        if self.skipped:
            lines.append(f"{self.skipped} lines of events.jsonl are no events; left out")
        if self.unknown:
            kinds = ", ".join(f"{kind} ({count})" for kind, count in self.unknown.most_common(4))
            lines.append(f"events of a kind unknown to this version: {kinds}")
        if self.clock_jumps:
            lines.append(f"the clock was set {self.clock_jumps} times; times are by each session")
        if self.restarts:
            lines.append("events.jsonl was replaced; read again from its start")
        return lines


class LiveRun:
    """Everything a screen wants to know about one run, kept up to date by `poll` and `look`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._reader = EventReader(run.events_path)
        self.state = "planned"
        self.status = Status()
        self.whole: LiveRun | None = None  # of an outline: the run that is being read
        self.forget()

    def forget(self) -> None:
        """Begin again from nothing, as for another run."""
        self.train = Table()
        self.evals = Table()
        self.last_step: Event = {}
        self.last_eval: Event = {}
        self.sessions: list[Session] = []
        self.notable: deque[Event] = deque(maxlen=KEPT)
        self.samples: dict[str, list[Event]] = {}  # prompt -> [first, newest]
        self.checkpoints: deque[Event] = deque(maxlen=KEPT)
        self.waiting: dict[int, Event] = {}  # requests without an answer, by number
        self.pace = Pace()
        self.steps = 0
        self.best: tuple[float, int] | None = None  # (loss, step) of the best evaluation
        self.skipped_steps = 0
        self.oddities = Oddities()
        self._time = 0.0

    # -- reading ------------------------------------------------------------------------------

    @property
    def loaded(self) -> float:
        """Share of events.jsonl that has been read, 0 to 1; of an outline, that of the whole."""
        if self.whole is not None:
            return self.whole.loaded
        return min(1.0, self._reader.offset / self._reader.size) if self._reader.size else 1.0

    def poll(self, budget: float = 0.02) -> bool:
        """Read new events for about `budget` seconds; whether more are waiting."""
        deadline = time.perf_counter() + budget
        restarts = self._reader.restarts
        try:
            for batch in self._reader.batches(BLOCK):
                if self._reader.restarts != restarts:
                    restarts = self._reader.restarts
                    self.forget()
                self._take(batch)
                if time.perf_counter() > deadline:
                    return True
        except FtlabError as error:
            self.oddities.fault = str(error)
        self.oddities.skipped = self._reader.skipped
        self.oddities.restarts = self._reader.restarts
        return False

    def outline(self) -> LiveRun | None:
        """The run as evenly spread stretches of its steps tell it; None for a short history.

        Figures that are sums or the best of many (time taken, evaluations, samples) are not in it.
        """
        path = self.run.events_path
        try:
            size = path.stat().st_size
        except OSError:
            return None
        if size < LONG:
            return None
        self._reader.size = size
        made = LiveRun(self.run)
        made.whole, made.state, made.status = self, self.state, self.status
        known = (event for stretch in stretches(path) for event in stretch)
        made._take([event for event in known if event["kind"] in ("started", "step")])
        made.sessions.clear()
        made.oddities = Oddities()
        return made

    def look(self) -> str:
        """Take state and status anew: a few small files. Returns the state; "deleted" when gone."""
        self.oddities.fault = ""
        try:
            if not self.run.path.is_dir():
                self.state = "deleted"
                self.oddities.fault = f"{self.run.path} is gone: it was deleted or moved"
                return self.state
            self.status = self.run.status()
            self.state = self.run.liveness()
        except OSError as error:
            self.oddities.fault = str(atomic.storage_error(error, self.run.path))
        return self.state

    # -- figures ------------------------------------------------------------------------------

    @property
    def step(self) -> int:
        """Finished steps, by whichever source knows more."""
        return max(self.status.step, int(self.last_step.get("step") or 0))

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.steps or self.status.steps

    def left(self, now: float | None = None) -> float | None:
        """Seconds until the last step at the pace of this session; None when that is unknown."""
        if self.state not in LIVE or not self.total_steps:
            return None
        return self.pace.left(self.total_steps, time.time() if now is None else now)

    def elapsed(self, now: float | None = None) -> float:
        """Seconds of training of all sessions together, without the pauses between them."""
        total = sum(max(0.0, session.ended - session.began) for session in self.sessions)
        if self.sessions and self.state in LIVE:
            total += max(0.0, (time.time() if now is None else now) - self.sessions[-1].ended)
        return total

    @property
    def preference(self) -> bool:
        """Whether the run reports what preference training reports."""
        return "rewards/margins" in self.train.columns

    # -- taking events ------------------------------------------------------------------------

    def _take(self, batch: Sequence[dict[str, Any]]) -> None:
        steps: list[dict[str, Any]] = []
        for event in batch:
            if event["kind"] == "step" and _number(event.get("step")):
                if steps and event["step"] <= steps[-1]["step"]:
                    self._steps(steps)
                    steps = []
                steps.append(event)
                continue
            if steps:
                self._steps(steps)
                steps = []
            self._other(event)
        if steps:
            self._steps(steps)

    def _steps(self, events: list[dict[str, Any]]) -> None:
        """Add steps that rise: metric by metric, not step by step, for a long history is fast."""
        for moment in _irregular(events):
            self._clock(moment)
        columns = _columns(events)
        self.train.extend([event["step"] for event in events], columns)
        if any(columns.get("skipped", ())):
            self.skipped_steps += sum(1 for event in events if event.get("skipped"))
        behind = self._reader.size - self._reader.offset > 8 * BLOCK
        for event in events[-1:] if behind else events:  # the pace is that of the newest steps
            if _number(event.get("t")):
                self.pace.feed(event)
        self.last_step = events[-1]
        if self.sessions:
            session = self.sessions[-1]
            session.last_step = int(events[-1]["step"])

    def _clock(self, moment: Any) -> None:
        if not _number(moment):
            return
        if moment < self._time - _CLOCK_BACK:
            self.oddities.clock_jumps += 1
            if self.sessions:  # count on from here, or the elapsed time would shrink
                old = self.sessions[-1]
                self.sessions.append(Session(moment, old.last_step, moment, old.last_step))
        self._time = float(moment)
        if self.sessions:
            self.sessions[-1].ended = self._time

    def _other(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind not in _KNOWN:
            self.oddities.unknown[kind] += 1
            return
        if kind == "started":
            self._started(event)
        self._clock(event.get("t"))
        if kind == "eval" and _number(event.get("step")):
            self._evaluated(event)
        elif kind == "sample":
            self._sampled(event)
        elif kind == "checkpoint":
            self.checkpoints.append(event)
        elif kind == "request":
            self.waiting[int(event.get("number") or 0)] = event
        elif kind == "answered":
            self.waiting.pop(int(event.get("number") or 0), None)
        if kind != "sample":
            self.notable.append(event)

    def _started(self, event: dict[str, Any]) -> None:
        step = int(event.get("step") or 0)
        self.steps = int(event.get("steps") or self.steps)
        moment = float(event["t"]) if _number(event.get("t")) else self._time
        self._time = moment
        self.sessions.append(Session(moment, step, moment, step))
        self.pace.feed({**event, "step": step})
        self.waiting.clear()
        self.train.cut(step + 1)
        self.evals.cut(step + 1)

    def _evaluated(self, event: dict[str, Any]) -> None:
        self.last_eval = event
        values = {name: _float(v) for name, v in event.items() if name not in _NOT_METRICS}
        self.evals.append(event["step"], values)
        loss = values.get("loss", NAN)
        if loss == loss and (self.best is None or loss < self.best[0]):
            self.best = loss, int(event["step"])

    def _sampled(self, event: dict[str, Any]) -> None:
        prompt = str(event.get("prompt") or "")
        if prompt in self.samples:
            self.samples[prompt][1:] = [event]
        elif len(self.samples) < 32:
            self.samples[prompt] = [event]


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and value - value == 0


def _float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return NAN


def _irregular(events: Sequence[Event]) -> list[Any]:
    """The times that the clock must be told of: the last alone where they rise, else all."""
    times = [event.get("t") for event in events]
    try:
        steady = times == sorted(times)  # type: ignore[type-var]
    except TypeError:
        steady = False
    return [times[0], times[-1]] if steady else times


def _columns(events: Sequence[Event]) -> dict[str, array[float]]:
    """The events' metrics, turned by ninety degrees; NaN where one is missing or no number."""
    names = sorted(set().union(*events) - _NOT_METRICS)
    if not names:
        return {}
    try:
        rows: Any = zip(*map(itemgetter(*names, "step"), events), strict=True)  # step: never one
    except KeyError:
        rows = ()
    columns = list(rows) or [[event.get(name, NAN) for event in events] for name in names]
    return {name: _floats(column) for name, column in zip(names, columns, strict=False)}


def _floats(values: Sequence[Any]) -> array[float]:
    try:
        return array("f", values)
    except (TypeError, OverflowError):
        return array("f", [_float(v) if not isinstance(v, str) else NAN for v in values])
