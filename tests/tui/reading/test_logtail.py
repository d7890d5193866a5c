"""log.txt from its end."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ftlab_tui.reading import logtail
from ftlab_tui.reading.logtail import LogTail, clean, is_warning


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.txt"


def write(path: Path, first: int, last: int) -> None:
    with path.open("a") as file:
        file.writelines(f"line {number} {'x' * (number % 50)}\n" for number in range(first, last))


def test_the_end_comes_first_and_the_rest_on_demand(path: Path) -> None:
    write(path, 0, 20_000)
    log = LogTail(path, lines=10)
    assert log.poll()
    assert log.lines[-1].startswith("line 19999 ")
    assert 10 <= len(log.lines) < 4000
    assert not log.at_start
    while log.older(5000):
        pass
    assert log.at_start
    assert [line.split()[1] for line in log.lines] == [str(n) for n in range(20_000)]


def test_new_lines_are_added_and_a_line_being_written_waits(path: Path) -> None:
    log = LogTail(path)
    assert not log.poll()
    write(path, 0, 3)
    assert log.poll()
    assert not log.poll()
    with path.open("a") as file:
        file.write("half")
    assert not log.poll()
    with path.open("a") as file:
        file.write(" whole\n\nlast\n")
    assert log.poll()
    assert log.lines == ["line 0 ", "line 1 x", "line 2 xx", "half whole", "", "last"]


def test_only_so_many_lines_are_kept_and_dropped_ones_can_be_read_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logtail, "LIMIT", 400)
    write(path, 0, 100)
    log = LogTail(path)
    log.poll()
    for start in range(100, 2000, 100):
        write(path, start, start + 100)
        log.poll()
        assert len(log.lines) <= 400
        first = int(log.lines[0].split()[1])
        assert [int(line.split()[1]) for line in log.lines] == list(range(first, start + 100))
    monkeypatch.setattr(logtail, "LIMIT", 10_000)
    log.older(10_000)
    assert [int(line.split()[1]) for line in log.lines] == list(range(2000))


def test_a_replaced_or_removed_file(path: Path) -> None:
    write(path, 0, 50)
    log = LogTail(path)
    log.poll()
    path.unlink()
    assert log.poll()
    assert log.lines == []
    path.write_text("new\n")
    assert log.poll()
    assert log.lines == ["new"]


def test_far_behind_it_begins_at_the_end_again(path: Path) -> None:
    write(path, 0, 5)
    log = LogTail(path, lines=5)
    log.poll()
    write(path, 5, 150_000)
    log.poll()
    assert log.lines[-1].startswith("line 149999 ")
    assert len(log.lines) < 5000


def test_a_folder_in_its_place_is_told(path: Path) -> None:
    path.mkdir()
    log = LogTail(path)
    assert not log.poll()
    assert "cannot access" in log.fault


def test_older_lines_are_searched_for(path: Path) -> None:
    write(path, 0, 30_000)
    log = LogTail(path, lines=10)
    log.poll()
    log.older(1, lambda line: line.startswith("line 12345 "), most=1000)
    assert any(line.startswith("line 12345 ") for line in log.lines)


def test_lines_are_made_fit_to_be_shown(path: Path) -> None:
    path.write_bytes(
        b"\x1b[31mred\x1b[0m \x1b]0;title\x07text\n 10%\r 50%\r100%\r\n\xff\x00\tx\n"
        + b"y" * 200_000
        + b"\nend\n"
    )
    log = LogTail(path)
    log.poll()
    assert log.lines[-1] == "end"
    assert all(len(line) <= logtail.LONGEST for line in log.lines)
    while log.older(10_000):
        pass
    assert log.lines[:3] == ["red text", "100%", "\ufffd    x"]


def test_warnings_are_known() -> None:
    assert is_warning("UserWarning: x")
    assert is_warning("WARNING: x")
    assert is_warning("Traceback (most recent call last):")
    assert is_warning("NVRM: Xid 79")
    assert not is_warning("loss 1.0 mirror")
    assert clean("a\x1b[2Kb") == "ab"


@pytest.mark.quiet
def test_a_million_lines_open_at_once(path: Path, slowness: float) -> None:
    with path.open("w") as file:
        block = "".join(f"2026-01-01 step {n} loss 1.2345 lr 0.0001\n" for n in range(10_000))
        for _ in range(100):
            file.write(block)
    began = time.process_time()
    log = LogTail(path)
    log.poll()
    assert time.process_time() - began < 0.25 * slowness
    assert log.lines[-1].startswith("2026-01-01 step 9999 ")
    assert os.path.getsize(path) > 40 << 20
