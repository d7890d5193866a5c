"""The ledger keeps bits, survives a kill at any byte, and finds the first difference."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import pytest

from ftlab import ledger
from ftlab.errors import EnvironmentUnfit, FtlabError
from ftlab.ledger import Ledger, Record


def fill(path: Path, steps: int, **change: object) -> Path:
    """A ledger of `steps` records; `change` applies to the last one."""
    with Ledger.open(path) as book:
        for step in range(1, steps + 1):
            values: dict[str, object] = {
                "loss": 1 / step,
                "grad_norm": 0.1,
                "lr": 1e-4,
                "trained_tokens": 10 * step,
                "batch_hash": 2**64 - step,
                "state_hash": bytes(range(16)) if step % 2 == 0 else None,
            }
            book.append(step=step, **(values | (change if step == steps else {})))  # type: ignore[arg-type]
    return path


def test_records_come_back_as_f32(tmp_path: Path) -> None:
    first, second = ledger.read(fill(tmp_path / "a", 2))
    assert (first.step, first.trained_tokens, first.batch_hash) == (1, 10, 2**64 - 1)
    assert first.lr == struct.unpack("<f", struct.pack("<f", 1e-4))[0]
    assert first.state_hash is None
    assert second.state_hash == bytes(range(16))


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    content = fill(tmp_path / "a", 2).read_bytes()
    assert content[:16] == b"FTLEDGR1" + struct.pack("<II", 1, 56)
    assert len(content) == 16 + 2 * 56
    assert struct.unpack_from("<QfffIQQ", content, 16 + 56)[4] == 1  # flag: state_hash is set


@pytest.mark.parametrize("cut", [1, 20, 55])
def test_a_truncated_last_record_is_ignored_and_removed(tmp_path: Path, cut: int) -> None:
    path = fill(tmp_path / "a", 3)
    path.write_bytes(path.read_bytes()[:-cut])
    assert [r.step for r in ledger.read(path)] == [1, 2]
    with Ledger.open(path, resume_step=2) as book:
        assert book.last_step == 2
        book.append(step=3, loss=1, grad_norm=1, lr=1, trained_tokens=1, batch_hash=1)
    assert [r.step for r in ledger.read(path)] == [1, 2, 3]


@pytest.mark.parametrize("length", range(16))
def test_a_torn_header_is_an_empty_ledger(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a"
    path.write_bytes((b"FTLEDGR1" + struct.pack("<II", 1, 56))[:length])
    assert ledger.read(path) == []
    with Ledger.open(path, resume_step=0) as book:
        assert book.last_step == 0
    assert path.stat().st_size == 16


def test_resume_removes_later_records_and_gives_the_same_bytes(tmp_path: Path) -> None:
    straight = fill(tmp_path / "a", 5).read_bytes()
    (tmp_path / "b").write_bytes(straight)
    with Ledger.open(tmp_path / "b", resume_step=3) as book:
        assert book.last_step == 3
        for step in (4, 5):
            record = ledger.read(tmp_path / "a")[step - 1]
            book.append(
                step=step,
                loss=record.loss,
                grad_norm=record.grad_norm,
                lr=record.lr,
                trained_tokens=record.trained_tokens,
                batch_hash=record.batch_hash,
                state_hash=record.state_hash,
            )
            book.sync()
    assert (tmp_path / "b").read_bytes() == straight
    assert ledger.digest(tmp_path / "a") == ledger.digest(tmp_path / "b")


def test_lost_records_show_in_last_step(tmp_path: Path) -> None:
    with Ledger.open(fill(tmp_path / "a", 3), resume_step=5) as book:
        assert book.last_step == 3


def test_steps_must_rise(tmp_path: Path) -> None:
    with Ledger.open(fill(tmp_path / "a", 3), resume_step=3) as book:
        with pytest.raises(ValueError, match="step 3 follows step 3"):
            book.append(step=3, loss=1, grad_norm=1, lr=1, trained_tokens=1, batch_hash=1)
        with pytest.raises(ValueError, match="16 bytes"):
            book.append(
                step=4, loss=1, grad_norm=1, lr=1, trained_tokens=1, batch_hash=1, state_hash=b"x"
            )
        book.close()
        book.close()


def test_odd_floats(tmp_path: Path) -> None:
    path = fill(tmp_path / "a", 1, loss=float("nan"), grad_norm=1e300, lr=-1e300)
    (record,) = ledger.read(path)
    assert math.isnan(record.loss)
    assert (record.grad_norm, record.lr) == (math.inf, -math.inf)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"loss": 0.5}, "loss"),
        ({"loss": float("nan")}, "loss"),
        ({"grad_norm": 0.10000001}, "grad_norm"),
        ({"lr": -0.0}, "lr"),
        ({"trained_tokens": 1}, "trained_tokens"),
        ({"batch_hash": 1}, "batch_hash"),
        ({"state_hash": bytes(16)}, "state_hash"),
    ],
)
def test_first_difference_names_step_and_field(
    tmp_path: Path, change: dict[str, object], field: str
) -> None:
    a, b = fill(tmp_path / "a", 4), fill(tmp_path / "b", 4, **change)
    found = ledger.first_difference(a, b)
    assert found is not None
    assert (found.step, found.field) == (4, field)
    assert f"step 4: {field}" in str(found)


def test_equal_ledgers_do_not_differ(tmp_path: Path) -> None:
    a, b = (fill(tmp_path / n, 4, loss=float("nan")) for n in "ab")
    assert ledger.first_difference(a, b) is None
    hashed_more = fill(tmp_path / "c", 3, state_hash=bytes(16))
    hashed_less = fill(tmp_path / "d", 3)
    assert ledger.first_difference(hashed_more, hashed_less) is None
    assert ledger.digest(hashed_more) != ledger.digest(hashed_less)


def test_a_shorter_ledger_differs_where_it_ends(tmp_path: Path) -> None:
    a, b = fill(tmp_path / "a", 3), tmp_path / "b"
    b.write_bytes(a.read_bytes()[: 16 + 2 * 56])
    assert ledger.first_difference(a, b) == ledger.Difference(3, "missing", 3, None)
    assert ledger.first_difference(b, a) == ledger.Difference(3, "missing", None, 3)


def test_longer_records_of_a_newer_version_are_read_but_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "a"
    body = Record(1, 2.0, 3.0, 4.0, 5, 6).pack() + b"new field"
    path.write_bytes(b"FTLEDGR1" + struct.pack("<II", 2, len(body)) + body)
    assert [(r.step, r.loss) for r in ledger.read(path)] == [(1, 2.0)]
    with pytest.raises(FtlabError, match="newer ftlab"):
        Ledger.open(path, 1)


def test_what_is_no_ledger_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"something else entirely, long enough")
    for action in (ledger.read, Ledger.open, ledger.digest):
        with pytest.raises(FtlabError, match="not a ledger"):
            action(path)
    with pytest.raises(FtlabError, match="gone"):
        ledger.read(tmp_path / "missing")


def test_a_full_disk_keeps_former_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno
    import os

    real, path = os.write, fill(tmp_path / "a", 2)

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) < 56:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:30])

    with Ledger.open(path, 2) as book:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(EnvironmentUnfit, match="no space left"):
            book.append(step=3, loss=1, grad_norm=1, lr=1, trained_tokens=1, batch_hash=1)
        monkeypatch.undo()
        assert path.stat().st_size == 16 + 2 * 56
        book.append(step=3, loss=1, grad_norm=1, lr=1, trained_tokens=1, batch_hash=1)
    assert len(ledger.read(path)) == 3
