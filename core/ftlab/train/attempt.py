"""One attempt at training, and its last words: however it ends, the run directory says so."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftlab import atomic, ledger, manifest
from ftlab.errors import FtlabError, Interrupted
from ftlab.events import EventWriter, Heartbeat
from ftlab.process import Identity
from ftlab.run import Run
from ftlab.train.ranks.alone import Alone, RankLost
from ftlab.train.ranks.room import Room
from ftlab.train.signals import StopSignal

if TYPE_CHECKING:
    from ftlab.plan import Plan

FAULT_SECONDS = 10.0  # in which another rank's last word, or its death, comes to light


@dataclass(frozen=True, slots=True)
class Member:
    """Which of several ranks this process is."""

    room: Room
    rank: int
    size: int

    def join(self, plan: Plan) -> contextlib.AbstractContextManager[Alone]:
        """Meet the others."""
        from ftlab.train.ranks.together import Together

        return Together(self.room, self.rank, self.size, str(plan.decided("device")))


def attempt(
    run: Run,
    events: EventWriter,
    stop: StopSignal,
    *,
    resume: bool,
    member: Member | None = None,
    process: Identity | None = None,
) -> int:
    """Train `run`; the exit code.

    Args:
        member: which rank this is, where several processes train.
        process: the one that answers for the run; by default this one.
    """
    with Heartbeat(run, process=process) as heartbeat, _room(run):
        end = _work(run, events, heartbeat, stop, resume, member)
        say_last_words(run, events, heartbeat, end)
    return int(end["code"])


def say_last_words(run: Run, events: EventWriter, beat: Heartbeat, end: dict[str, Any]) -> None:
    """Write how an attempt ended wherever somebody may look for it."""
    if end["code"] not in (0, Interrupted.exit_code):
        _tell(f"error: {end['reason']}")
        _try(lambda: events.write("error", message=end["reason"]))
    end["step"] = _finished_steps(run)
    _try(lambda: events.write("finished", state=end["state"], step=end["step"]))
    _try(lambda: manifest.seal(run, end))
    _try(lambda: beat.finish(end["state"], end["reason"]))


def reason_of(error: Exception) -> str:
    """An error in words; the kind of one that is not ours is told."""
    return str(error) if isinstance(error, FtlabError) else f"{type(error).__name__}: {error}"


@contextlib.contextmanager
def _room(run: Run) -> Iterator[None]:
    """Room on the disk for the last words, while the block runs."""
    try:
        with contextlib.suppress(FtlabError):  # already full: whatever writes next says it
            manifest.reserve(run)
        yield
    finally:
        manifest.release(run)


def _work(
    run: Run,
    events: EventWriter,
    heartbeat: Heartbeat,
    stop: StopSignal,
    resume: bool,
    member: Member | None,
) -> dict[str, Any]:
    """Train, and put however that ends into words."""
    try:
        heartbeat.update(message="starting")
        plan = run.plan()
        from ftlab.train.build import Desk, train  # torch: seconds

        with member.join(plan) if member else contextlib.nullcontext(Alone()) as ranks:
            train(Desk(run, plan, events, heartbeat, stop, ranks), resume=resume)
        return {"state": "done", "code": 0, "reason": ""}
    except Interrupted as error:
        return _other_rank(member, 0.0) or _ended("stopped", error.exit_code, error)
    except RankLost as error:
        return _other_rank(member, FAULT_SECONDS) or _ended("failed", error.exit_code, error)
    except FtlabError as error:
        return _ended("failed", error.exit_code, error)
    except OSError as error:  # such as a line of a library for log.txt, on a full disk
        _tell(traceback.format_exc())
        said = atomic.storage_error(error, error.filename or run.log_path)
        return _ended("failed", said.exit_code, said)
    except Exception as error:
        _tell(traceback.format_exc())  # into log.txt: this one is a fault of ours
        return _ended("failed", 1, error)


def _ended(state: str, code: int, error: Exception) -> dict[str, Any]:
    return {"state": state, "code": code, "reason": reason_of(error)}


def _other_rank(member: Member | None, seconds: float) -> dict[str, Any] | None:
    """How another rank ended this attempt: torchrun's SIGTERM is no wish of a person."""
    fault = member.room.wait_for_fault(member.size, seconds) if member else None
    if fault is None:
        return None
    return {"state": "failed", "code": fault.code, "reason": f"rank {fault.rank}: {fault.reason}"}


def _finished_steps(run: Run) -> int:
    """The newest step in the ledger: the one file that misses none."""
    try:
        return max((record.step for record in ledger.read(run.ledger_path)), default=0)
    except FtlabError:
        return 0


def _try(say: Callable[[], object]) -> None:
    """The last words must not hide why the attempt ended; a full disk may swallow them."""
    try:
        say()
    except FtlabError as error:
        _tell(f"error: {error}")


def _tell(text: str) -> None:
    """Write to log.txt, which a full disk refuses as well."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr, flush=True)
