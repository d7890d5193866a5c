"""What ranks leave for each other."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ftlab import atomic
from ftlab.process import Identity
from ftlab.train.ranks.room import Fault, Room


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def _dead(room: Room, rank: int) -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    entry = Identity(pid, 1, Identity.mine().boot_id, "h", Identity.mine().pid_namespace)
    atomic.write_json(room.path / f"rank-{rank}.json", entry.to_dict())
    return pid


def test_who_is_there(room: Room) -> None:
    assert room.process(1) is None
    room.enter(1)
    assert room.process(1) == Identity.mine()
    assert room.fault(3) is None


def test_the_first_fault_that_was_told(room: Room) -> None:
    _dead(room, 0)
    room.fail(Fault(2, 3, "no memory"))
    time.sleep(0.002)
    room.fail(Fault(1, 1, "a consequence"))
    assert room.fault(3) == Fault(2, 3, "no memory")


def test_one_that_died_without_a_word(room: Room) -> None:
    room.enter(0)
    pid = _dead(room, 1)
    found = room.wait_for_fault(2, 1.0)
    assert found is not None
    assert (found.rank, found.code) == (1, 1)
    assert f"process {pid} was killed" in found.reason
    room.leave(1)
    assert room.wait_for_fault(2, 0.0) is None
