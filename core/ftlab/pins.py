"""The lock file this environment was installed from, and how what is installed differs from it.

A lock is found through FTLAB_LOCK (the image sets it), beside ftlab's metadata, or at the root of a
checkout, where the one whose torch is installed is meant. Standard library only.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

OWN = "ftlab"
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file: where it lies, its hash, how it was found, and its pins."""

    path: Path
    sha256: str
    found: str
    pins: dict[str, str]  # normalised name -> version


@dataclass(frozen=True, slots=True)
class Drift:
    """How the installed set differs from a lock."""

    changed: dict[str, str]  # name -> "locked 1.0, installed 2.0" or "locked 1.0, missing"
    extra: dict[str, str]  # name -> version that no pin asks for


def find() -> Lock | None:
    """The lock of this environment, or None when none is known."""
    for path, found in _candidates():
        lock = read(path, found)
        if lock is not None:
            return lock
    return None


def read(path: Path, found: str = "") -> Lock | None:
    """The lock at `path`; None when it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    pins = {_normal(n): v for n, v in _PIN.findall(data.decode("utf-8", "replace"))}
    return Lock(path, hashlib.sha256(data).hexdigest(), found, pins)


def drift(lock: Lock, installed: dict[str, str] | None = None) -> Drift:
    """What differs between the lock and what is installed (here, by default)."""
    have = _installed() if installed is None else installed
    changed = {
        name: f"locked {version}, " + (f"installed {have[name]}" if name in have else "missing")
        for name, version in sorted(lock.pins.items())
        if have.get(name) != version
    }
    extra = {n: v for n, v in sorted(have.items()) if n not in lock.pins and n != OWN}
    return Drift(changed, extra)


def _candidates() -> list[tuple[Path, str]]:
    named = os.environ.get("FTLAB_LOCK")
    given = [(Path(named), "FTLAB_LOCK")] if named else []
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        return given
    torch = _installed().get("torch")
    locks = [(path, f"{path.name} of this checkout") for path in sorted(root.glob("env*.lock"))]
    fitting = [(p, f) for p, f in locks if (lock := read(p)) and lock.pins.get("torch") == torch]
    return given + (fitting or [entry for entry in locks if entry[0].name == "env.lock"])


@functools.cache
def _installed() -> dict[str, str]:
    """Normalised name -> version of every distribution on the path."""
    found: dict[str, str] = {}
    # setuptools, once imported, puts what it carries inside itself on the path: not installed here.
    places = [entry for entry in sys.path if Path(entry).name != "_vendor"]
    for distribution in metadata.distributions(path=places):
        name = distribution.metadata["Name"]
        if name:
            found.setdefault(_normal(name), distribution.version)
    return found


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
