"""Files are whole or absent, and a storage fault is one clear error."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftlab import atomic
from ftlab.errors import EnvironmentUnfit, FtlabError


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"ä": [1, 2.5, None, True], "p": tmp_path})
    assert atomic.read_json(path) == {"ä": [1, 2.5, None, True], "p": str(tmp_path)}
    assert path.read_text().endswith("}\n")
    assert os.listdir(tmp_path) == ["a.json"]


def test_plain_takes_what_trainers_have() -> None:
    value = {1: (np.float32(0.5), float("nan")), "s": {"b", "a"}, "n": np.int64(3), "i": 1e400}
    assert atomic.plain(value) == {"1": [0.5, None], "s": ["a", "b"], "n": 3, "i": None}


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "not valid JSON"), (b"{", "not valid JSON"), (b"[1]", "object"), (b"\xff", "not valid")],
)
def test_bad_json_names_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "status.json"
    path.write_bytes(content)
    with pytest.raises(FtlabError, match=message) as caught:
        atomic.read_json(path)
    assert "status.json" in str(caught.value)


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, EnvironmentUnfit, "no space left"),
        (errno.EDQUOT, EnvironmentUnfit, "no space left"),
        (errno.EROFS, EnvironmentUnfit, "read-only"),
        (errno.EACCES, EnvironmentUnfit, "not permitted"),
        (errno.ENOTDIR, EnvironmentUnfit, "is a file, not a folder"),
        (errno.ENOENT, FtlabError, "deleted or moved"),
        (errno.EIO, FtlabError, "Input/output error"),
    ],
)
def test_a_fault_leaves_the_old_content_and_nothing_else(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    kind: type[FtlabError],
    message: str,
) -> None:
    path = tmp_path / "a.json"
    atomic.write_json(path, {"old": 1})

    def fail(descriptor: int, data: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(kind, match=message):
        atomic.write_json(path, {"new": 2})
    monkeypatch.undo()
    assert atomic.read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_really_full_file_system_is_said() -> None:
    with (
        pytest.raises(EnvironmentUnfit, match="no space left"),
        atomic.clear_errors("/dev/full"),
        open("/dev/full", "wb") as array,
    ):
        np.zeros(9999).tofile(array)
    with (
        pytest.raises(EnvironmentUnfit, match="no space left"),
        atomic.clear_errors("/dev/full"),
        open("/dev/full", "wb", buffering=0) as file,
    ):
        atomic.write_all(file.fileno(), b"x")


def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """No new file can be made, and no byte added to a file that was not there."""
    real = os.open

    def refuse(path: Any, flags: int, *arguments: Any, **named: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *arguments, **named)

    monkeypatch.setattr(os, "open", refuse)


def test_what_was_reserved_is_written_on_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "exit.json", tmp_path / "other.json"
    atomic.reserve(path, 4096)
    atomic.reserve(path, 4096)  # it is there
    assert sum(p.stat().st_blocks * 512 for p in tmp_path.iterdir()) >= 4096
    full(monkeypatch)
    atomic.write_json(path, {"code": 3})
    assert atomic.read_json(path) == {"code": 3}
    assert os.listdir(tmp_path) == ["exit.json"]  # used up, and no room for the next time
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        atomic.write_json(path, {"code": 4})
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        atomic.write_json(other, {})
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        atomic.reserve(other, 1)
    assert atomic.read_json(path) == {"code": 3}


def test_room_is_made_again_by_what_is_replaced_and_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "status.json"
    atomic.write_json(path, {"step": 1})
    atomic.reserve(path, 64)
    full(monkeypatch)
    with pytest.raises(EnvironmentUnfit, match="no space left"):
        atomic.write_text(path, "x" * 65)  # more than was reserved
    assert atomic.read_json(path) == {"step": 1}
    monkeypatch.undo()
    real, calls = os.replace, []

    def once(source: Any, target: Any) -> None:
        calls.append(source)
        if len(calls) == 1:
            raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))
        real(source, target)

    monkeypatch.setattr(os, "replace", once)
    atomic.write_json(path, {"step": 2})
    assert atomic.read_json(path) == {"step": 2}
    assert sorted(os.listdir(tmp_path)) == [".status.json.room", "status.json"]
    atomic.release(path)
    atomic.release(path)
    assert os.listdir(tmp_path) == ["status.json"]


def test_partial_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    atomic.write_text(tmp_path / "a", "0123456789")
    assert (tmp_path / "a").read_text() == "0123456789"


def test_a_reader_never_sees_a_torn_file(tmp_path: Path) -> None:
    path, stop = tmp_path / "a.json", threading.Event()
    atomic.write_json(path, {"v": "0" * 5000})

    def write() -> None:
        for i in range(200):
            atomic.write_json(path, {"v": str(i % 10) * 5000}, durable=False)
        stop.set()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for thread in writers:
        thread.start()
    while not stop.is_set():
        value = atomic.read_json(path)["v"]
        assert len(value) == 5000
        assert len(set(value)) == 1
    for thread in writers:
        thread.join()
    assert os.listdir(tmp_path) == ["a.json"]
