"""Events are read whole, in order, from any offset, whatever a crash left at the end."""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from ftlab import events
from ftlab.errors import EnvironmentUnfit, FtlabError, Interrupted
from ftlab.events import EventReader, EventWriter, Heartbeat
from ftlab.run import Run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def test_write_and_read_on(path: Path) -> None:
    with EventWriter(path) as writer:
        writer.write("started", step=0, steps=3)
        first, offset = events.read(path)
        writer.write("step", step=1, loss=np.float32(0.5), note="zwölf\n", path=path)
        second, end = events.read(path, offset)
    assert [e["kind"] for e in first + second] == ["started", "step"]
    assert (second[0]["loss"], second[0]["note"], second[0]["path"]) == (0.5, "zwölf\n", str(path))
    assert second[0]["v"] == 1
    assert abs(second[0]["t"] - time.time()) < 5
    assert end == path.stat().st_size
    assert events.read(path, end) == ([], end)


def test_lines_are_strict_json_and_nan_comes_back(path: Path) -> None:
    with EventWriter(path) as writer:
        writer.write("step", loss=float("nan"), grad_norm=-math.inf, deep={"x": float("nan")})

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    json.loads(path.read_text(), parse_constant=refuse)
    ((event,), _) = events.read(path)
    assert math.isnan(event["loss"])
    assert event["grad_norm"] == -math.inf
    assert event["deep"] == {"x": None}
    assert "nonfinite" not in event


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_truncated_last_line_is_left_for_later_and_then_removed(path: Path, cut: int) -> None:
    with EventWriter(path) as writer:
        writer.write("a")
        writer.write("b")
    path.write_bytes(path.read_bytes()[:-cut])
    found, offset = events.read(path)
    assert [e["kind"] for e in found] == ["a"]
    with EventWriter(path) as writer:
        writer.write("c")
    assert [e["kind"] for e in events.read(path, offset)[0]] == ["c"]


def test_a_file_of_one_torn_line_starts_anew(path: Path) -> None:
    path.write_bytes(b'{"kind": "a"')
    with EventWriter(path) as writer:
        writer.write("b")
    assert [e["kind"] for e in events.read(path)[0]] == ["b"]


def test_bad_lines_are_skipped_and_counted(path: Path) -> None:
    path.write_bytes(b'{"kind":"a"}\nnot json\n[1]\n{"kind":1}\n\xff\n\n' + b"[" * 9999 + b"\n")
    with path.open("ab") as file:
        file.write(b'{"kind":"z","v":99,"new":1,"nonfinite":3}\n{"kind":"y","v":99,"new":1}\n')
    reader = EventReader(path)
    assert [e["kind"] for e in reader.poll()] == ["a", "y"]
    assert reader.skipped == 6


def test_missing_replaced_and_unreadable_files(path: Path, tmp_path: Path) -> None:
    reader = EventReader(path)
    assert reader.poll() == []
    path.write_bytes(b'{"kind":"a"}\n{"kind":"b"}\n')
    assert len(reader.poll()) == 2
    path.write_bytes(b'{"kind":"c"}\n')
    assert [e["kind"] for e in reader.poll()] == ["c"]
    with pytest.raises(FtlabError, match="cannot access"):
        events.read(tmp_path)


def test_another_file_of_the_same_size_is_read_from_its_start(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b'{"kind":"a"}\n')
    reader = EventReader(path)
    assert len(reader.poll()) == 1
    assert reader.restarts == 0
    beside = tmp_path / "beside"
    beside.write_bytes(b'{"kind":"b"}\n')
    beside.replace(path)
    assert [e["kind"] for e in reader.poll()] == ["b"]
    assert reader.restarts == 1


def test_batches_can_be_left_and_taken_up_again(path: Path) -> None:
    with EventWriter(path) as writer:
        for step in range(100):
            writer.write("step", step=step)
    reader = EventReader(path)
    first = next(reader.batches(1000))
    assert 0 < len(first) < 30
    assert reader.offset < reader.size == path.stat().st_size
    rest = [event["step"] for batch in reader.batches(1000) for event in batch]
    assert rest == list(range(len(first), 100))


@pytest.mark.parametrize("lines", [b'{"kind":"a"\n"x":1}\n', b"[1\n2],3\n", b'"a","b"\n\n3\n'])
def test_lines_that_make_sense_only_together_are_no_events(path: Path, lines: bytes) -> None:
    path.write_bytes(lines + b'{"kind":"z"}\n')
    reader = EventReader(path)
    assert [e["kind"] for e in reader.poll()] == ["z"]
    assert reader.skipped == 2


def test_a_file_longer_than_one_chunk(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_CHUNK", 64)
    with EventWriter(path) as writer:
        for step in range(50):
            writer.write("step", step=step, text="x" * (step * 7 % 200))
    with path.open("ab") as file:
        file.write(b"torn" * 50)
    found, offset = events.read(path)
    assert [e["step"] for e in found] == list(range(50))
    EventWriter(path).close()
    assert path.stat().st_size == offset


def test_a_reader_beside_writers_misses_nothing(path: Path) -> None:
    writer, reader = EventWriter(path), EventReader(path)

    def write(base: int) -> None:
        for i in range(200):
            writer.write("step", step=base + i, text="x" * 500)

    threads = [threading.Thread(target=write, args=(base,)) for base in (0, 1000)]
    for thread in threads:
        thread.start()
    steps: list[int] = []
    while any(thread.is_alive() for thread in threads):
        steps += [e["step"] for e in reader.poll()]
    steps += [e["step"] for e in reader.poll()]
    writer.close()
    writer.close()
    assert sorted(steps) == [*range(200), *range(1000, 1200)]
    assert reader.skipped == 0


def test_a_full_disk_keeps_whole_lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with EventWriter(path) as writer:
        writer.write("a")
        real = os.write

        def full(descriptor: int, data: memoryview) -> int:
            if len(data) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(descriptor, data[:10])

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(EnvironmentUnfit, match="no space left"):
            writer.write("b", text="x" * 30)
        monkeypatch.undo()
        writer.write("c")
    assert [e["kind"] for e in events.read(path)[0]] == ["a", "c"]
    assert path.read_bytes().count(b"\n") == 2


def test_a_deleted_run_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FtlabError, match="deleted or moved"):
        EventWriter(tmp_path / "gone" / "events.jsonl")


def test_last_finds_the_newest_of_a_kind(path: Path) -> None:
    assert events.last(path) is None
    with EventWriter(path) as writer:
        writer.write("step", step=1)
        writer.write("step", step=2)
        writer.write("checkpoint", step=2)
    assert (events.last(path) or {})["step"] == 2
    assert (events.last(path, "checkpoint") or {})["step"] == 2
    assert events.last(path, "eval") is None


def test_heartbeat_beats_and_finishes(planned: Run) -> None:
    with Heartbeat(planned, steps=9, interval=0.01) as heartbeat:
        first = planned.status()
        assert (first.state, first.pid, first.steps) == ("running", os.getpid(), 9)
        assert first.created > 0
        heartbeat.update(step=4, message="evaluating")
        deadline = time.time() + 5
        while planned.status().step != 4 and time.time() < deadline:
            time.sleep(0.01)
        assert planned.status().message == "evaluating"
        assert planned.status().heartbeat > first.heartbeat
        assert planned.liveness() == "running"
        heartbeat.finish("done")
        ended = planned.status()
        time.sleep(0.05)
        assert planned.status() == ended
    assert planned.status() == ended
    assert (planned.liveness(), ended.step) == ("done", 4)
    with pytest.raises(ValueError, match="a run ends as"):
        heartbeat.finish("running")


def test_stretches_tell_the_outline_of_a_long_file(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [json.dumps({"kind": "step", "step": n, "pad": "x" * (n % 50)}) for n in range(9000)]
    path.write_text("\n".join(lines) + '\n{"kind": "st')
    found = [[event["step"] for event in part] for part in events.stretches(path, 20, 1000, 4000)]
    assert len(found) == 21
    assert found[0][0] == 0
    assert found[-1][-1] == 8999
    steps = [step for part in found for step in part]
    assert steps == sorted(set(steps))
    assert all(part == list(range(part[0], part[0] + len(part))) for part in found)
    starts = [part[0] for part in found[:-1]]
    assert max(b - a for a, b in itertools.pairwise(starts)) < 600
    assert len(steps) < 600


def test_stretches_of_a_short_file_and_of_none(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert list(events.stretches(path)) == []
    path.write_text('{"kind": "step", "step": 1}\nnothing\n{"kind": "step", "step": 2}\n')
    assert [[e["step"] for e in part] for part in events.stretches(path)] == [[1, 2]]


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (Interrupted("SIGTERM"), "stopped", "SIGTERM"),
        (KeyboardInterrupt(), "stopped", "KeyboardInterrupt"),
        (RuntimeError("CUDA out of memory"), "failed", "RuntimeError: CUDA out of memory"),
    ],
)
def test_heartbeat_says_how_a_block_was_left(
    planned: Run, error: BaseException, state: str, message: str
) -> None:
    with pytest.raises(type(error)), Heartbeat(planned):
        raise error
    assert planned.status().state == state
    assert message in planned.status().message


def test_a_disk_fault_does_not_end_the_heartbeat(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Heartbeat(planned, interval=0.01) as heartbeat:

        def full(descriptor: int, data: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        deadline = time.time() + 5
        while heartbeat.error is None and time.time() < deadline:
            time.sleep(0.01)
        assert isinstance(heartbeat.error, EnvironmentUnfit)
        monkeypatch.undo()
        while heartbeat.error is not None and time.time() < deadline:
            time.sleep(0.01)
        assert heartbeat.error is None
        heartbeat.finish("done")
