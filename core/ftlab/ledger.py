"""The ledger: one fixed-size record per optimizer step, the bits by which two runs are compared.

File: a 16-byte header (magic `FTLEDGR1`, u32 version, u32 record size), then little-endian records
of 56 bytes: u64 step, f32 loss, f32 grad_norm, f32 lr, u32 flags, u64 trained_tokens,
u64 batch_hash, 16 bytes state_hash. Flag bit 0 says that state_hash is set.

A record is one `write`, so a kill leaves at most one truncated record at the end, which every
reader ignores and the next writer removes. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from ftlab.atomic import clear_errors, write_all
from ftlab.errors import FtlabError

MAGIC = b"FTLEDGR1"
VERSION = 1
_HEADER = struct.Struct("<8sII")
_RECORD = struct.Struct("<QfffIQQ16s")
_FLOAT = struct.Struct("<f")
STATE_HASHED = 1  # flag bit 0
_NO_HASH = bytes(16)


@dataclass(frozen=True, slots=True)
class Record:
    """What one optimizer step did. Floats are the f32 values that were stored."""

    step: int  # 1 is the first finished step
    loss: float
    grad_norm: float
    lr: float
    trained_tokens: int  # of this step
    batch_hash: int  # u64, first 8 bytes of the sha256 of the step's batch
    state_hash: bytes | None = None  # 16 bytes of trained state, where it was taken
    flags: int = 0

    def pack(self) -> bytes:
        """The 56 bytes of this record. NaN, infinities and values beyond f32 keep their meaning."""
        hashed = self.state_hash is not None
        flags = (self.flags & ~STATE_HASHED) | (STATE_HASHED if hashed else 0)
        state = self.state_hash if self.state_hash is not None else _NO_HASH
        if len(state) != len(_NO_HASH):
            raise ValueError(f"state_hash must have 16 bytes, not {len(state)}")
        numbers = (_to_f32(self.loss), _to_f32(self.grad_norm), _to_f32(self.lr))
        tail = (flags, self.trained_tokens, self.batch_hash, state)
        return _RECORD.pack(self.step, *numbers, *tail)

    @classmethod
    def unpack(cls, data: bytes) -> Record:
        """The record in the first 56 bytes of `data`; what a newer version appended is ignored."""
        step, loss, grad_norm, lr, flags, tokens, batch, state = _RECORD.unpack_from(data)
        hashed = state if flags & STATE_HASHED else None
        return cls(step, loss, grad_norm, lr, tokens, batch, hashed, flags)


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two ledgers differ: a record field, or "missing" at the end of one."""

    step: int
    field: str
    a: object  # value in the first ledger; None when it has no record of that step
    b: object

    def __str__(self) -> str:
        return f"step {self.step}: {self.field} {self.a!r} != {self.b!r}"


class Ledger:
    """An open ledger that is appended to. One writer: the trainer."""

    def __init__(self, path: Path, descriptor: int, last_step: int) -> None:
        self.path = path
        self.last_step = last_step  # step of the newest record, 0 when there is none
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path, resume_step: int = 0) -> Ledger:
        """Open for appending after `resume_step`; records of later steps are removed.

        A missing or torn file is begun afresh. After the call `last_step` should equal
        `resume_step`; a smaller value means that the machine lost records in a crash.

        Raises:
            FtlabError: the file is no ledger, or was written by an incompatible version.
            EnvironmentUnfit: it cannot be written.
        """
        path = Path(path)
        with clear_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                last_step = _prepare(path, descriptor, resume_step)
            except BaseException:
                os.close(descriptor)
                raise
        return cls(path, descriptor, last_step)

    def append(
        self,
        *,
        step: int,
        loss: float,
        grad_norm: float,
        lr: float,
        trained_tokens: int,
        batch_hash: int,
        state_hash: bytes | None = None,
    ) -> None:
        """Add the record of `step`; on a storage fault the file keeps its former records.

        Raises:
            ValueError: `step` does not follow the newest record.
            FtlabError: the record cannot be written.
        """
        if step <= self.last_step:
            raise ValueError(f"step {step} follows step {self.last_step} in {self.path}")
        record = Record(step, loss, grad_norm, lr, trained_tokens, batch_hash, state_hash)
        with clear_errors(self.path):
            end = os.lseek(self._descriptor, 0, os.SEEK_END)
            try:
                write_all(self._descriptor, record.pack())
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, end)
                raise
        self.last_step = step

    def sync(self) -> None:
        """Force every record to the disk; called before a checkpoint is called complete."""
        with clear_errors(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read(path: Path) -> list[Record]:
    """Every complete record of `path`, in order.

    Raises:
        FtlabError: missing, or not a ledger.
    """
    return [Record.unpack(data) for data in _raw(path)]


def digest(path: Path) -> str:
    """sha256 over magic and complete records; equal for bit-identical runs."""
    state = hashlib.sha256(MAGIC)
    for data in _raw(path):
        state.update(data)
    return state.hexdigest()


def first_difference(a: Path, b: Path) -> Difference | None:
    """The first step and field in which two ledgers differ, or None when all bits are equal.

    Floats are compared by their bits (NaN equals NaN, 0.0 differs from -0.0). State hashes are
    compared where both ledgers took one: how often they are taken changes no result.
    """
    left, right = read(a), read(b)
    for one, other in zip(left, right, strict=False):
        field = _differing_field(one, other)
        if field:
            return Difference(one.step, field, getattr(one, field), getattr(other, field))
    if len(left) == len(right):
        return None
    shorter = min(len(left), len(right))
    longer = (left if len(left) > shorter else right)[shorter]
    in_left = longer.step if len(left) > shorter else None
    in_right = longer.step if len(right) > shorter else None
    return Difference(longer.step, "missing", in_left, in_right)


def _differing_field(a: Record, b: Record) -> str:
    for name in ("step", "batch_hash", "trained_tokens"):
        if getattr(a, name) != getattr(b, name):
            return name
    for name in ("lr", "loss", "grad_norm"):
        if _FLOAT.pack(getattr(a, name)) != _FLOAT.pack(getattr(b, name)):
            return name
    both = a.state_hash is not None and b.state_hash is not None
    return "state_hash" if both and a.state_hash != b.state_hash else ""


def _prepare(path: Path, descriptor: int, resume_step: int) -> int:
    """Write a missing header, cut everything after `resume_step`; the newest step kept."""
    size = os.fstat(descriptor).st_size
    if size < _HEADER.size:
        os.ftruncate(descriptor, 0)
        write_all(descriptor, _HEADER.pack(MAGIC, VERSION, _RECORD.size))
        return 0
    record_size = _check_header(path, os.pread(descriptor, _HEADER.size, 0))
    if record_size != _RECORD.size:
        raise FtlabError(f"{path} was begun by a newer ftlab; resume it with that version")
    kept, last_step = 0, 0
    while data := _whole(os.pread(descriptor, _RECORD.size, _HEADER.size + kept * _RECORD.size)):
        step = Record.unpack(data).step
        if step > resume_step:
            break
        kept, last_step = kept + 1, step
    os.ftruncate(descriptor, _HEADER.size + kept * _RECORD.size)
    return last_step


def _whole(data: bytes) -> bytes:
    return data if len(data) == _RECORD.size else b""


def _raw(path: Path) -> Iterator[bytes]:
    """The first 56 bytes of every complete record."""
    path = Path(path)
    with clear_errors(path):
        content = path.read_bytes()
    if len(content) < _HEADER.size and MAGIC.startswith(content[: len(MAGIC)]):
        return
    size = _check_header(path, content)
    for start in range(_HEADER.size, len(content) - size + 1, size):
        yield content[start : start + _RECORD.size]


def _check_header(path: Path, content: bytes) -> int:
    """The record size that the header states."""
    magic, _, record_size = _HEADER.unpack_from(content.ljust(_HEADER.size, b"\0"))
    if magic != MAGIC or record_size < _RECORD.size:
        raise FtlabError(f"{path} is not a ledger: it does not start with {MAGIC.decode()}")
    return int(record_size)


def _to_f32(value: float) -> float:
    """`value` as f32 can hold it: what is too large becomes an infinity, as on the device."""
    try:
        return float(_FLOAT.unpack(_FLOAT.pack(value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")
