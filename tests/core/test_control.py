"""Requests arrive once, in order, from any number of processes."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from ftlab import control
from ftlab.control import Inbox, Request
from ftlab.errors import ConfigError, FtlabError
from ftlab.run import Run


def test_requests_are_taken_once_in_order(planned: Run) -> None:
    numbers = [control.request(planned, n) for n in ("save", "eval", "sample")]
    stop = control.request(planned, "stop", reason="tired")
    assert [*numbers, stop] == [1, 2, 3, 4]
    inbox = Inbox(planned)
    assert inbox.poll() == [
        Request(1, "save"),
        Request(2, "eval"),
        Request(3, "sample"),
        Request(4, "stop", {"reason": "tired"}),
    ]
    assert inbox.poll() == []
    assert Inbox(planned).poll() == []


def test_numbers_go_on_after_requests_were_taken(planned: Run) -> None:
    control.request(planned, "save")
    Inbox(planned).poll()
    assert control.request(planned, "save") == 2
    assert sorted(os.listdir(planned.control_dir)) == ["0002-save.json", "taken"]


def test_a_file_made_by_hand_counts(planned: Run) -> None:
    (planned.control_dir / "stop").touch()
    inbox = Inbox(planned)
    assert inbox.poll() == [Request(0, "stop")]
    assert inbox.poll() == []


def test_what_is_no_request_is_left_alone(planned: Run) -> None:
    for name in ("notes.txt", ".0001.new", "1-stop.json", "stopp", "0002-STOP.json"):
        (planned.control_dir / name).write_text("{}")
    assert Inbox(planned).poll() == []
    assert control.request(planned, "stop") == 3


@pytest.mark.parametrize("content", ["", "{", "[]", '{"args": 3}', '{"v": 9, "x": 1}'])
def test_a_damaged_request_keeps_its_name(planned: Run, content: str) -> None:
    (planned.control_dir / "0007-save.json").write_text(content)
    (planned.control_dir / "0008-dance_more.json").write_text(content)
    assert Inbox(planned).poll() == [Request(7, "save"), Request(8, "dance_more")]


def test_a_folder_that_cannot_be_changed_still_answers_once(
    planned: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    control.request(planned, "save")
    inbox = Inbox(planned)

    def refuse(*paths: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "replace", refuse)
    assert [r.name for r in inbox.poll()] == ["save"]
    assert inbox.poll() == []


def test_many_askers_get_numbers_of_their_own(planned: Run) -> None:
    got: list[int] = []
    taken: list[Request] = []
    stop = threading.Event()

    def ask() -> None:
        got.extend(control.request(planned, "save") for _ in range(25))

    def take() -> None:
        inbox = Inbox(planned)
        while not stop.is_set():
            taken.extend(inbox.poll())
        taken.extend(inbox.poll())

    taker = threading.Thread(target=take)
    askers = [threading.Thread(target=ask) for _ in range(4)]
    for thread in (taker, *askers):
        thread.start()
    for thread in askers:
        thread.join()
    stop.set()
    taker.join()
    assert sorted(got) == sorted(set(got))
    assert len(got) == 100
    assert sorted(r.number for r in taken) == sorted(got)


def test_unknown_requests_and_deleted_runs_are_said(planned: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stop, save, eval, sample"):
        control.request(planned, "dance")
    shutil.rmtree(planned.path)
    with pytest.raises(FtlabError, match="deleted or moved"):
        control.request(planned, "stop")
    assert Inbox(planned).poll() == []
    (tmp_path / "runs" / planned.id).write_text("a file")
    with pytest.raises(FtlabError, match="is a file"):
        Inbox(planned).poll()
