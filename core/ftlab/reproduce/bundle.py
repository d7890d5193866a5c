"""Write a bundle: one file with all of a finished run that running it again needs.

A bundle is a plain tar. Its first member, bundle.json, names every other one in its order, with
bytes and sha256:

    config.yaml data/index.json env.lock events.jsonl exit.json export/... ledger.bin
    manifest.json noise.json plan.json status.json traces/...

data/index.json is the recipe of the batches and the hash of their stream; tokens and model are not
in a bundle, only their hashes. The same run gives the same bytes on any machine: members are
sorted, times and owners are zero, what names a process is left out of status.json, and nothing is
compressed, because compressors differ between builds of Python and trained weights shrink by a
tenth at most. Standard library only.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from ftlab import atomic, ledger, manifest, pins
from ftlab.errors import ConfigError, FtlabError
from ftlab.reproduce import compare, trace
from ftlab.run import Run, Status

FORMAT, BUNDLE_VERSION = "ftlab bundle", 1
LIST = "bundle.json"
LOCK = "env.lock"
SUFFIX = ".ftlab.tar"
REQUIRED = ("config.yaml", "exit.json", "ledger.bin", "manifest.json", "plan.json", "status.json")
OPTIONAL = ("data/index.json", LOCK, "events.jsonl", "noise.json")
OUTPUTS = "export/"
_WEIGHTS = ".safetensors"
_KEPT = ("state", "step", "steps", "created", "updated", "message")  # of status.json
_LEFTOVER_SECONDS = 3600

Source = Path | bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written."""

    path: Path
    run: str
    bytes: int
    sha256: str
    members: tuple[str, ...]
    lacking: tuple[str, ...]  # what a reader may miss, in words


def write(run: Run, target: Path, *, weights: bool = True) -> Bundle:
    """Write the bundle of a run that is done; `target` appears whole or not at all.

    Args:
        target: replaced where it is a bundle already.
        weights: False leaves the trained tensors out; their hashes stay in the manifest.
    Raises:
        ConfigError: the run is not done, or `target` is a file of another kind.
        FtlabError: a file of the run is gone or is not what its manifest sealed.
        EnvironmentUnfit: `target` cannot be written.
    """
    made = compare.sealed(run)
    check_target(target)
    sources, lacking = _sources(run, made, weights)
    entries = {name: _entry(source) for name, source in sources.items()}
    _check_sealed(run, made, entries)
    listed = [{"name": name, **entry} for name, entry in entries.items()]
    head = {"format": FORMAT, "version": BUNDLE_VERSION, "run": run.id, "files": listed}
    text = json.dumps(head, indent=1, ensure_ascii=False).encode() + b"\n"
    digest = _write(target, {LIST: text, **sources}, {LIST: _entry(text), **entries})
    members = (LIST, *sources)
    return Bundle(target, run.id, target.stat().st_size, digest, members, tuple(lacking))


def check_target(target: Path) -> None:
    """Refuse to replace what is no bundle. Raises ConfigError."""
    if not os.path.lexists(target):
        return
    if not target.is_file() or not looks_like_one(target):
        raise ConfigError(f"{target} exists and is no bundle; choose another --to")


def looks_like_one(path: Path) -> bool:
    """Whether a file begins as a bundle does; nothing of it is checked."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return False
    return head.startswith(LIST.encode() + b"\0") and head[257:262] == b"ustar"


def _sources(
    run: Run, made: Mapping[str, Any], weights: bool
) -> tuple[dict[str, Source], list[str]]:
    """Member -> where its bytes are, sorted; and words for what is missing."""
    found: dict[str, Source] = {name: run.path / name for name in REQUIRED}
    found |= {n: run.path / n for n in OPTIONAL if n != LOCK and (run.path / n).is_file()}
    traces = sorted((run.path / trace.FOLDER).glob("step-*.jsonl"))
    found |= {f"{trace.FOLDER}/{file.name}": file for file in traces}
    found["status.json"] = _status(run)
    lacking = []
    wanted = _locked(made)
    known = filter(None, (pins.read(run.path / LOCK), pins.find()))  # the first came in a bundle
    lock = next((lock for lock in known if lock.sha256 == wanted), None)
    if lock is not None:
        found[LOCK] = lock.path
    elif wanted:
        lacking.append(f"the lock of this run (sha256 {wanted[:12]}) is not that of this machine")
    else:
        lacking.append("the run knew no lock")
    for name in dict(made.get("outputs") or {}):
        if not name.startswith(OUTPUTS):
            lacking.append(f"{name} is not below {OUTPUTS}")
        elif weights or not name.endswith(_WEIGHTS):
            found[name] = run.path / name
        else:
            lacking.append(f"{name} is left out")
    return dict(sorted(found.items())), lacking


def _status(run: Run) -> bytes:
    """status.json without process and host, which are of no use elsewhere."""
    status = asdict(run.status())
    kept = asdict(Status.from_dict({name: status[name] for name in _KEPT}))
    return json.dumps(atomic.plain(kept), indent=2).encode() + b"\n"


def _locked(made: Mapping[str, Any]) -> str | None:
    field = dict(made["identity"]).get("lock.sha256")
    value = field.get("value") if isinstance(field, dict) else None
    return value if isinstance(value, str) else None


def _entry(source: Source) -> dict[str, Any]:
    if isinstance(source, bytes):
        return {"bytes": len(source), "sha256": hashlib.sha256(source).hexdigest()}
    with atomic.clear_errors(source):
        size = source.stat().st_size
    return {"bytes": size, "sha256": manifest.file_sha256(source)}


def _check_sealed(
    run: Run, made: Mapping[str, Any], entries: Mapping[str, Mapping[str, Any]]
) -> None:
    """A bundle of what was changed after the run would be judged by what it does not hold."""
    changed = [
        name
        for name, entry in dict(made.get("outputs") or {}).items()
        if name in entries and entries[name]["sha256"] != dict(entry).get("sha256")
    ]
    book = made.get("ledger") or {}
    if ledger.digest(run.ledger_path) != book.get("sha256"):
        changed.append("ledger.bin")
    if changed:
        raise FtlabError(
            f"{', '.join(changed)} of run {run.id} changed since the run ended: the manifest has "
            "another sha256; put the original back, or train the run again"
        )


def _write(
    target: Path, sources: Mapping[str, Source], entries: Mapping[str, Mapping[str, Any]]
) -> str:
    """Write beside, fsync, rename; the sha256 of the whole file."""
    beside = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    _sweep(target)
    with atomic.clear_errors(target):
        try:
            with beside.open("xb") as file:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
                    for name, source in sources.items():
                        _add(tar, name, source, entries[name])
                file.flush()
                os.fsync(file.fileno())
            digest = manifest.file_sha256(beside)
            os.replace(beside, target)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        atomic.sync_folder(target.parent)
    return digest


def _add(tar: tarfile.TarFile, name: str, source: Source, entry: Mapping[str, Any]) -> None:
    """One member. TarInfo's own time, owner and mode are fixed: 0, root without a name, 0644."""
    member = tarfile.TarInfo(name)
    member.size = entry["bytes"]
    if isinstance(source, bytes):
        tar.addfile(member, io.BytesIO(source))
        return
    with atomic.clear_errors(source), source.open("rb") as file:
        hashing = _Hashing(file)
        try:
            tar.addfile(member, hashing)  # type: ignore[arg-type]
        except OSError as error:
            if error.errno is not None:
                raise
            hashing.state.update(b"\0")  # tarfile's word for a file that became shorter
    if hashing.state.hexdigest() != entry["sha256"]:
        raise FtlabError(f"{source} changed while it was bundled; try again")


class _Hashing:
    """A file that hashes what is read of it."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.state = file, hashlib.sha256()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        data = self.file.read(size)
        self.state.update(data)
        return data


def _sweep(target: Path) -> None:
    """Remove what a writer that was killed left behind an hour ago."""
    with contextlib.suppress(OSError):
        for leftover in target.parent.glob(f".{target.name}.*.tmp"):
            if time.time() - leftover.stat().st_mtime > _LEFTOVER_SECONDS:
                leftover.unlink()
