"""The list of checks: how one is declared, in which order they run, and what silences what."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from ftlab_doctor import installer
from ftlab_doctor.finding import Finding
from ftlab_doctor.host import Host

PARTS = (
    "platform", "quotas", "wsl", "driver", "driver_card", "driver_library", "gpu", "several", "libraries", "needs", "torch_build", "extensions", "rivals", "python_env",
    "conflicts", "variables", "toolchain", "caches", "containers", "storage", "network", "configured",
    "deep",
)  # fmt: skip
Function = Callable[[Host], "Finding | Iterable[Finding]"]


class Check(NamedTuple):
    """A pure function of the host, with the checks whose failure answers it already."""

    id: str
    asks: str  # the question, for --list
    function: Function
    after: tuple[str, ...] = ()


_checks: dict[str, Check] = {}


def check(name: str, asks: str, after: Iterable[str] = ()) -> Callable[[Function], Function]:
    """Declare a check. If any check in `after` failed, this one is silenced by it."""

    def declare(function: Function) -> Function:
        add(Check(name, asks, function, tuple(after)))
        return function

    return declare


def add(item: Check) -> None:
    """Put one check on the list; two of one name are a mistake."""
    if item.id in _checks:
        raise ValueError(f"two checks are called {item.id}")
    _checks[item.id] = item


def load() -> dict[str, Check]:
    """Every check, by name, in the order in which they run."""
    for part in PARTS:
        importlib.import_module(f"ftlab_doctor.checks.{part}")
    return dict(_checks)


def run(
    host: Host, names: Iterable[str] = (), checks: dict[str, Check] | None = None
) -> list[Finding]:
    """Findings of the named checks (all, if none is named), causes before what they silence."""
    known = load() if checks is None else checks
    wanted = _with_causes(set(names) or set(known), known)
    causes: dict[str, str] = {}  # check that failed or was silenced -> id of the root
    findings: list[Finding] = []
    for item in _ordered(known):
        if item.id not in wanted:
            continue
        root = next((causes[name] for name in item.after if name in causes), "")
        results = [_silenced(item, root)] if root else _ask(item, host)
        findings += results
        if root or any(result.status == "fail" for result in results):
            causes[item.id] = root or item.id
    return [f for f in findings if not names or f.id.split("/")[0] in set(names)]


def _ordered(known: dict[str, Check]) -> list[Check]:
    """As declared, but causes first."""
    done: dict[str, Check] = {}

    def visit(item: Check) -> None:
        if item.id not in done:
            for name in item.after:
                if name in known:
                    visit(known[name])
            done[item.id] = item

    for item in known.values():
        visit(item)
    return list(done.values())


def _with_causes(names: set[str], known: dict[str, Check]) -> set[str]:
    todo, found = list(names), set()
    while todo:
        name = todo.pop()
        if name in known and name not in found:
            found.add(name)
            todo += known[name].after
    return found


def _silenced(item: Check, root: str) -> Finding:
    return Finding(item.id, "skip", f"follows from {root}", because=root)


def _ask(item: Check, host: Host) -> list[Finding]:
    start = time.perf_counter()
    here = "container" if host.in_container else "host"
    try:
        answer = item.function(host)
        answers = [answer] if isinstance(answer, Finding) else list(answer)
    except Exception as error:
        import traceback

        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{last.filename.rsplit('/', 1)[-1]}:{last.lineno}"
        answers = [
            Finding(
                "", "crash", f"this check itself failed: {type(error).__name__}: {error}", where
            )
        ]
    took = (time.perf_counter() - start) * 1000
    named = [answer.named(item.id, took / max(len(answers), 1), here) for answer in answers]
    return [
        f._replace(
            title=f.title or item.asks, fix=tuple(installer.adapt(host, fix) for fix in f.fix)
        )
        for f in named
    ]
