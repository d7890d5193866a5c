"""A process of a run that several train: `python -m ftlab.train.ranks.member RUN`, by torchrun.

Rank 0 carries out the attempt as a single process would. The others do their part of every step,
write nothing, and end when it says so.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from ftlab import lock
from ftlab.errors import FtlabError, Interrupted
from ftlab.events import EventWriter
from ftlab.process import die_with_parent
from ftlab.run import Run
from ftlab.train.attempt import Member, attempt, reason_of
from ftlab.train.ranks.alone import RankLost
from ftlab.train.ranks.room import VARIABLE, Fault, Room
from ftlab.train.ranks.silent import SilentEvents, SilentHeartbeat
from ftlab.train.signals import StopSignal


def main(arguments: Sequence[str] | None = None) -> int:
    """Be one rank of a run; 0 when all end together, else the exit code of what went wrong here."""
    parser = argparse.ArgumentParser(prog="ftlab.train.ranks.member", description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args(arguments)
    die_with_parent()
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    member = Member(Room(Path(os.environ[VARIABLE])), rank, size)
    see_one_gpu(rank)
    run = Run(options.run)
    code = _lead(run, member, options.resume) if rank == 0 else _follow(run, member, options.resume)
    member.room.leave(rank)
    # All leave together where nothing is wrong; how the run ended is in exit.json.
    return 0 if code in (0, Interrupted.exit_code) else code


def see_one_gpu(rank: int) -> None:
    """Hide every GPU but the own one, which is then number 0 as in any other run."""
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    if rank < len(visible):
        os.environ["CUDA_VISIBLE_DEVICES"] = visible[rank]


def _lead(run: Run, member: Member, resume: bool) -> int:
    with StopSignal() as stop, EventWriter(run.events_path) as events:
        member.room.enter(0)
        head = lock.holder(run.lock_path)  # whoever started us holds the run
        return attempt(run, events, stop, resume=resume, member=member, process=head)


def _follow(run: Run, member: Member, resume: bool) -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the leader
    member.room.enter(member.rank)
    try:
        plan = run.plan()
        from ftlab.train.build import Desk, train  # torch: seconds

        with member.join(plan) as ranks:
            desk = Desk(run, plan, SilentEvents(), SilentHeartbeat(), StopSignal(), ranks)
            train(desk, resume=resume)
        return 0
    except Interrupted as error:
        return error.exit_code
    except RankLost as error:  # the leader finds out which
        print(f"rank {member.rank}: {error}", file=sys.stderr, flush=True)
        return error.exit_code
    except Exception as error:
        if not isinstance(error, FtlabError):
            traceback.print_exc()
        code = error.exit_code if isinstance(error, FtlabError) else FtlabError.exit_code
        member.room.fail(Fault(member.rank, code, reason_of(error)))
        print(f"error of rank {member.rank}: {reason_of(error)}", file=sys.stderr, flush=True)
        return code


if __name__ == "__main__":
    ended = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # taking connections down would wait for partners that are gone
