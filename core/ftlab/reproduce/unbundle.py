"""Read a bundle: check every byte against its list, and make a run of it that is whole or absent.

A bundle may come from a stranger. Only names that a bundle has are taken, each one an ordinary file
of the listed size and hash; tar's own extraction is not used, so no member leaves the folder, is a
link, or keeps an owner or a mode. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ftlab import atomic, ledger, manifest, registry
from ftlab.errors import ConfigError, DataError, FtlabError
from ftlab.reproduce import compare, trace
from ftlab.reproduce.bundle import (
    BUNDLE_VERSION,
    FORMAT,
    LIST,
    OPTIONAL,
    OUTPUTS,
    REQUIRED,
    looks_like_one,
)
from ftlab.run import Run

_LARGEST_LIST = 1 << 24
_PIECE = 1 << 20
_OUTPUT = re.compile(r"export(/[A-Za-z0-9_][A-Za-z0-9._-]*)+\Z")
_TRACE = re.compile(rf"{trace.FOLDER}/step-[1-9][0-9]{{0,11}}\.jsonl\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_END = 2 * tarfile.BLOCKSIZE  # zeros that end every tar


class BundleDamaged(DataError):
    """A bundle is truncated, was changed, or is none."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file as the list names it."""

    name: str
    bytes: int
    sha256: str


def unpack(path: Path, root: str | os.PathLike[str]) -> tuple[Run, bool]:
    """The run in a bundle as a run below `root`, and whether it was made now.

    A run that is there already, by its manifest and ledger, is used as it is; where another one has
    its name, the bundle's gets a name with a hash.

    Raises:
        BundleDamaged: with the reason.
        EnvironmentUnfit: `root` cannot be written, or its disk is full.
    """
    root = Path(os.path.abspath(root))
    registry.check(root, None)
    with atomic.clear_errors(root):
        root.mkdir(parents=True, exist_ok=True)
    beside = root / f".new-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        with atomic.clear_errors(path), path.open("rb") as file:
            name, listed = _unpack(path, file, beside)
        _check_sealed(path, Run(beside))
        return _appear(beside, root, name, listed)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def came_in_one(run: Run) -> bool:
    """Whether a run was unpacked from a bundle."""
    return (run.path / LIST).is_file()


def _unpack(path: Path, file: IO[bytes], folder: Path) -> tuple[str, dict[str, Member]]:
    """Fill `folder`; the id of the run and the members."""
    if not looks_like_one(path):
        raise BundleDamaged(f"{path} is no bundle: `ftrun bundle RUN` writes one")
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            name, listed, text = _list(path, file, tar)
            registry.make_folders(folder)
            (folder / LIST).write_bytes(text)
            for member in listed.values():
                _take(path, file, _next(path, tar, member.name), member, folder / member.name)
    except (tarfile.TarError, EOFError) as error:
        raise BundleDamaged(f"bundle {path} is damaged: {error}") from error
    rest = file.read(tarfile.RECORDSIZE + _END)
    if any(rest):
        raise BundleDamaged(f"bundle {path} was changed: more follows than its list names")
    if len(rest) < _END:
        raise BundleDamaged(f"bundle {path} is truncated: its end is missing")
    return name, listed


def _next(path: Path, tar: tarfile.TarFile, name: str) -> tarfile.TarInfo:
    """The next member, which must be an ordinary file of that name."""
    found = tar.next()
    if found is None:
        raise BundleDamaged(f"bundle {path} is truncated: {name} is missing")
    if found.name != name:
        raise BundleDamaged(
            f"bundle {path} was changed: {found.name!r} stands where {name} belongs"
        )
    if found.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        raise BundleDamaged(f"bundle {path} was changed: {name} is no ordinary file")
    return found


def _list(
    path: Path, file: IO[bytes], tar: tarfile.TarFile
) -> tuple[str, dict[str, Member], bytes]:
    """What bundle.json says: run, members, and its bytes."""
    found = _next(path, tar, LIST)
    if found.size > _LARGEST_LIST:
        raise BundleDamaged(f"bundle {path} is damaged: its list has {found.size} bytes")
    file.seek(found.offset_data)
    text = file.read(found.size)
    if len(text) < found.size:
        raise BundleDamaged(f"bundle {path} is truncated: it ends inside {LIST}")
    try:
        head = json.loads(text)
        if head["format"] != FORMAT:
            raise ValueError(f"format {head['format']!r}")
        if head["version"] > BUNDLE_VERSION:
            raise BundleDamaged(f"bundle {path} was written by a newer ftlab; use that version")
        members = [_member(entry) for entry in head["files"]]
        name = head["run"]
        if not registry.is_name(name):
            raise ValueError(f"run {name!r}")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BundleDamaged(f"bundle {path} is damaged: {LIST} cannot be used: {error}") from error
    listed = {member.name: member for member in members}
    missing = [required for required in REQUIRED if required not in listed]
    if missing or len(listed) < len(members):
        what = f"lacks {', '.join(missing)}" if missing else "names a file twice"
        raise BundleDamaged(f"bundle {path} is damaged: its list {what}")
    return name, listed, text


def _member(entry: Mapping[str, Any]) -> Member:
    member = Member(entry["name"], entry["bytes"], entry["sha256"])
    if member.name not in REQUIRED + OPTIONAL and not (
        _OUTPUT.match(member.name) or _TRACE.match(member.name)
    ):
        raise ValueError(f"{member.name!r} is no file of a bundle")
    if not isinstance(member.bytes, int) or member.bytes < 0 or not _SHA256.match(member.sha256):
        raise ValueError(f"size or sha256 of {member.name!r}")
    return member


def _take(path: Path, file: IO[bytes], found: tarfile.TarInfo, member: Member, to: Path) -> None:
    """Copy one member to a new file, hashed on the way."""
    if found.size != member.bytes:
        raise BundleDamaged(
            f"bundle {path} was changed: {member.name} has {found.size} bytes, its list says "
            f"{member.bytes}"
        )
    file.seek(found.offset_data)
    state, left = hashlib.sha256(), member.bytes
    with atomic.clear_errors(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        with to.open("xb") as out:
            while left:
                data = file.read(min(left, _PIECE))
                if not data:
                    raise BundleDamaged(f"bundle {path} is truncated: it ends inside {member.name}")
                state.update(data)
                out.write(data)
                left -= len(data)
    if state.hexdigest() != member.sha256:
        raise BundleDamaged(
            f"bundle {path} was changed: {member.name} has another sha256 than listed"
        )
    file.seek(-member.bytes % tarfile.BLOCKSIZE, os.SEEK_CUR)


def _check_sealed(path: Path, run: Run) -> None:
    """Ledger and outputs are what the run's own manifest sealed, and the plan can be read."""
    try:
        made = compare.sealed(run)
        run.plan()
        digest = ledger.digest(run.ledger_path)
    except (FtlabError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise BundleDamaged(f"bundle {path} holds no run that is done: {error}") from error
    wrong = [] if digest == dict(made.get("ledger") or {}).get("sha256") else ["ledger.bin"]
    for name, entry in dict(made.get("outputs") or {}).items():
        there = run.path / name
        held = name.startswith(OUTPUTS) and there.is_file()
        if held and manifest.file_sha256(there) != dict(entry).get("sha256"):
            wrong.append(name)
    if wrong:
        raise BundleDamaged(
            f"bundle {path} was changed: {', '.join(wrong)} is not what its manifest sealed"
        )


def _appear(beside: Path, root: Path, name: str, listed: Mapping[str, Member]) -> tuple[Run, bool]:
    """Give the run its name; a run of the same manifest and ledger stays as it is."""
    digest = listed["manifest.json"].sha256
    for chosen in (name, f"{name[:90]}.{digest[:8]}"):
        target = root / chosen
        if not os.path.lexists(target) and registry.appear(beside, target):
            return Run(target), True
        if _same(target, listed):
            return Run(target), False
    raise ConfigError(f"{name} and {chosen} exist in {root} and are other runs; use --runs-dir")


def _same(folder: Path, listed: Mapping[str, Member]) -> bool:
    try:
        return all(
            manifest.file_sha256(folder / name) == listed[name].sha256
            for name in ("manifest.json", "ledger.bin", "plan.json")
        )
    except FtlabError:
        return False
