"""Collecting: every fact that a check reads, gathered into one JSON-able snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ftlab_doctor import __version__
from ftlab_doctor.collect import (
    builds,
    commands,
    devices,
    elf_facts,
    environment,
    files,
    libraries,
    packages,
    places,
    python,
    system,
)  # fmt: skip

FORMAT = "ftdoctor-snapshot"
VERSION = 1


def collect(lock: str | None = None) -> dict[str, Any]:
    """The raw snapshot of this machine; redact it before it leaves."""
    facts: dict[str, Any] = {
        "format": FORMAT, "version": VERSION,
        "made": {"tool": __version__, "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())},
    }  # fmt: skip
    waiting = commands.start()  # children work while this process reads files
    for step in (
        system.collect, environment.collect, files.collect, devices.collect, python.collect,
        places.collect,
    ):  # fmt: skip
        _guarded(facts, step)
    _guarded(facts, lambda facts: packages.collect(facts, lock))
    for late in (libraries.collect, builds.collect, elf_facts.collect):
        _guarded(facts, late)
    commands.finish(facts, waiting)
    return facts


def _guarded(facts: dict[str, Any], step: Callable[[dict[str, Any]], None]) -> None:
    """A collector that fails leaves its facts out and says so; the others go on."""
    try:
        step(facts)
    except Exception as error:
        name = getattr(step, "__module__", "collector")
        facts.setdefault("faults", []).append(f"{name}: {type(error).__name__}: {error}")
