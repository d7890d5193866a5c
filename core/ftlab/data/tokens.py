"""The token store: every row of a data set, tokenised once, memory-mapped from disk.

A store is a folder:

    tokens.npy   int32 [N]        every token, rows one after the other
    trained.npy  uint8 [N]        1 where the token carries loss
    rows.npy     int64 [R, K+1]   where the K segments of each row begin, and where the last ends
    keys.npy     uint64 [R]       hash of each row's prompt text, the same for every tokenizer
    meta.json                     written last: version, shapes, sha256 of the contents

SFT rows have K = 1 segment. Preference rows have K = 3: prompt, chosen, rejected; the sequences
that are trained are prompt + chosen and prompt + rejected. The first token of a sequence has
nothing before it that could predict it, so it is never marked as trained.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ftlab.errors import DataError

STORE_VERSION = 1
_ARRAYS = {"tokens": "<i4", "trained": "|u1", "rows": "<i8", "keys": "<u8"}
_HEADER_BYTES = 128
_CHUNK_BYTES = 1 << 24

Array = npt.NDArray[Any]


class StoreDamaged(DataError):
    """A token store is missing, truncated or changed; `prepare` builds it again."""


@dataclass(frozen=True, slots=True)
class TokenStore:
    """A store opened for reading; the arrays are memory-mapped and must not be written to.

    Attributes:
        path: its folder.
        tokens: int32 [N]; trained: uint8 [N]; rows: int64 [R, K+1]; keys: uint64 [R].
        meta: what meta.json says.
    """

    path: Path
    tokens: Array
    trained: Array
    rows: Array
    keys: Array
    meta: Mapping[str, Any]

    @classmethod
    def open(cls, path: str | Path, *, verify: bool = True) -> TokenStore:
        """Open the store in `path`.

        Args:
            path: the folder.
            verify: read everything once and compare its sha256 (about a second per GB).

        Raises:
            StoreDamaged: a file is missing or truncated, or the contents changed.
        """
        folder = Path(path)
        meta = _read_meta(folder)
        arrays = {name: _map_array(folder, name, meta["shapes"][name]) for name in _ARRAYS}
        if verify:
            found = contents_sha256(arrays)
            if found != meta["sha256"]:
                raise StoreDamaged(
                    f"token store {folder} changed since it was written: sha256 {found[:12]}, "
                    f"expected {meta['sha256'][:12]}; delete the folder and prepare the data again"
                )
        return cls(path=folder, meta=meta, **arrays)

    @property
    def sha256(self) -> str:
        """Hash of the contents (tokens, marks, row boundaries), independent of the folder."""
        return str(self.meta["sha256"])

    @property
    def preference(self) -> bool:
        """Whether rows are (prompt, chosen, rejected)."""
        return int(self.rows.shape[1]) == 4

    @property
    def sequences_per_row(self) -> int:
        """1 for SFT rows, 2 for preference rows."""
        return 2 if self.preference else 1

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def lengths(self) -> Array:
        """Tokens of each sequence, int64 [R, sequences_per_row]."""
        rows = np.asarray(self.rows)
        if not self.preference:
            return np.diff(rows, axis=1)
        prompt, chosen, rejected = np.diff(rows, axis=1).T
        return np.stack([prompt + chosen, prompt + rejected], axis=1)

    def sequences(self, row: int) -> list[tuple[Array, Array]]:
        """The (tokens int32 [L], trained uint8 [L]) of each sequence of a row, whole."""
        bounds = [int(bound) for bound in self.rows[row]]
        if not self.preference:
            begin, end = bounds
            return [(self.tokens[begin:end], self.trained[begin:end])]
        prompt, chosen, rejected, end = bounds
        return [
            tuple(
                np.concatenate([array[prompt:chosen], array[begin:stop]])
                for array in (self.tokens, self.trained)
            )
            for begin, stop in ((chosen, rejected), (rejected, end))
        ]

    def trained_per_row(self) -> Array:
        """Trained tokens of each row (both sequences together), int64 [R]."""
        counts = [
            _sums(self.trained, self.rows[begin:end, 0], self.rows[begin:end, -1])
            for begin, end in row_chunks(self.rows)
        ]
        return np.concatenate(counts) if counts else np.zeros(0, np.int64)


class StoreWriter:
    """Writes a store piece by piece in bounded memory. Use as a context manager, then `finish`."""

    def __init__(self, path: str | Path, *, preference: bool) -> None:
        self.path = Path(path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._segments = 3 if preference else 1
        self._written = 0
        self._files = {name: _NpyFile(self.path / f"{name}.npy", name) for name in _ARRAYS}

    def append(
        self, tokens: Array, trained: Array, lengths: Array, keys: Array | None = None
    ) -> None:
        """Add rows.

        Args:
            tokens: integer [n], the segments of all rows one after the other.
            trained: 0 or 1 [n].
            lengths: integer [rows, K], tokens of each segment.
            keys: uint64 [rows], hash of each row's prompt; default 0.
        """
        lengths = np.asarray(lengths, np.int64).reshape(-1, self._segments)
        marks = np.array(trained, np.uint8)
        ends = np.cumsum(lengths.ravel()).reshape(lengths.shape)
        starts = ends - lengths
        marks[_first_tokens(starts, ends)] = 0
        bounds = np.concatenate([starts, ends[:, -1:]], axis=1) + self._written
        self._files["tokens"].write(np.asarray(tokens, "<i4"))
        self._files["trained"].write(marks)
        self._files["rows"].write(bounds.astype("<i8"))
        self._files["keys"].write(np.zeros(len(bounds), "<u8") if keys is None else keys)
        self._written += int(ends[-1, -1]) if len(ends) else 0

    def finish(self, **meta: Any) -> TokenStore:
        """Complete the files, write meta.json last, and open the result."""
        rows = self._files["rows"].count // (self._segments + 1)
        shapes = {
            "tokens": [self._files["tokens"].count],
            "trained": [self._files["trained"].count],
            "rows": [rows, self._segments + 1],
            "keys": [self._files["keys"].count],
        }
        digests = {name: file.close(shapes[name]) for name, file in self._files.items()}
        document = {
            **meta,
            "version": STORE_VERSION,
            "shapes": shapes,
            "sha256": _combine(digests, shapes),
        }
        (self.path / "meta.json").write_text(json.dumps(document, indent=1, sort_keys=True))
        return TokenStore.open(self.path, verify=False)

    def close(self) -> None:
        """Close the files without completing the store."""
        for file in self._files.values():
            file.abandon()

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def row_chunks(rows: Array, tokens: int = 1 << 23) -> Iterator[tuple[int, int]]:
    """Ranges of rows with about `tokens` tokens each, so that work on them fits in memory."""
    begin, count = 0, len(rows)
    while begin < count:
        limit = int(rows[begin, 0]) + tokens
        end = max(begin + 1, int(np.searchsorted(rows[:, -1], limit, side="right")))
        yield begin, min(end, count)
        begin = min(end, count)


def contents_sha256(arrays: Mapping[str, Array]) -> str:
    """sha256 of a store's contents, from its arrays."""
    digests = {}
    for name, dtype in _ARRAYS.items():
        flat = np.ascontiguousarray(arrays[name]).reshape(-1).astype(dtype, copy=False)
        digest = hashlib.sha256()
        step = _CHUNK_BYTES // flat.itemsize
        for begin in range(0, len(flat), step):
            digest.update(flat[begin : begin + step].view(np.uint8).data)
        digests[name] = digest.hexdigest()
    return _combine(digests, {name: list(arrays[name].shape) for name in _ARRAYS})


def _combine(digests: Mapping[str, str], shapes: Mapping[str, list[int]]) -> str:
    parts = [f"{name} {_ARRAYS[name]} {shapes[name]} {digests[name]}" for name in _ARRAYS]
    return hashlib.sha256("\n".join([f"ftlab store {STORE_VERSION}", *parts]).encode()).hexdigest()


def _first_tokens(starts: Array, ends: Array) -> Array:
    """Positions of tokens that begin a sequence; answers do where there is no prompt."""
    if starts.shape[1] == 1:
        return np.asarray(starts[starts < ends])
    has_prompt = starts[:, 0] < ends[:, 0]
    answers = starts[~has_prompt, 1:][starts[~has_prompt, 1:] < ends[~has_prompt, 1:]]
    return np.concatenate([starts[has_prompt, 0], answers])


def _sums(marks: Array, begins: Array, ends: Array) -> Array:
    """Sum of marks[begin:end] for rising ranges, int64."""
    if not len(begins):
        return np.zeros(0, np.int64)
    base = int(begins[0])
    running = np.concatenate([[0], np.cumsum(marks[base : int(ends[-1])], dtype=np.int64)])
    return np.asarray(running[np.asarray(ends) - base] - running[np.asarray(begins) - base])


def _read_meta(folder: Path) -> dict[str, Any]:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if meta["version"] != STORE_VERSION:
            raise StoreDamaged(
                f"token store {folder} has version {meta['version']}, this program reads "
                f"{STORE_VERSION}; prepare the data again"
            )
        _ = [meta["shapes"][name] for name in _ARRAYS], meta["sha256"]
    except FileNotFoundError:
        raise StoreDamaged(f"no complete token store in {folder}; prepare the data again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreDamaged(f"token store {folder}: meta.json cannot be read ({error})") from None
    return dict(meta)


def _map_array(folder: Path, name: str, shape: list[int]) -> Array:
    path = folder / f"{name}.npy"
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise StoreDamaged(f"token store: {path} cannot be read ({error})") from None
    if list(array.shape) != list(shape) or array.dtype != np.dtype(_ARRAYS[name]):
        raise StoreDamaged(
            f"token store: {path} holds {array.dtype} {list(array.shape)}, expected "
            f"{np.dtype(_ARRAYS[name])} {list(shape)}"
        )
    return np.asarray(array)


class _NpyFile:
    """One .npy file written in pieces: the header has a fixed size and is filled in at the end."""

    def __init__(self, path: Path, name: str) -> None:
        self._dtype = _ARRAYS[name]
        self._file: IO[bytes] = path.open("wb")
        self._file.write(bytes(_HEADER_BYTES))
        self._digest = hashlib.sha256()
        self.count = 0

    def write(self, values: Array) -> None:
        data = np.ascontiguousarray(values, dtype=self._dtype).tobytes()
        self._digest.update(data)
        self._file.write(data)
        self.count += values.size

    def close(self, shape: list[int]) -> str:
        text = f"{{'descr': '{self._dtype}', 'fortran_order': False, 'shape': {tuple(shape)}, }}"
        body = text.ljust(_HEADER_BYTES - 11).encode("latin1") + b"\n"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body)
        self._file.close()
        return self._digest.hexdigest()

    def abandon(self) -> None:
        self._file.close()
