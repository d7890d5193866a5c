"""A finding: what one check says, with its evidence and the commands that mend it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

STATUSES = ("ok", "warn", "fail", "skip", "unknown", "crash")
NEEDS = ("none", "root", "host", "reboot")
PLACES = ("host", "container", "windows")


@dataclass(frozen=True)
class Fix:
    """One command that mends, where it runs ("" is wherever the doctor ran) and what it needs."""

    cmd: str
    needs: str = "none"
    where: str = ""


@dataclass(frozen=True)
class Evidence:
    """Where a fact was read (a file, a command, a variable) and what stood there."""

    source: str
    value: str


@dataclass(frozen=True)
class Finding:
    """The verdict of one check. `title` is a sentence that a person understands alone."""

    id: str
    status: str
    title: str
    observed: str = ""
    expected: str = ""
    evidence: tuple[Evidence, ...] = ()
    why: str = ""
    fix: tuple[Fix, ...] = ()
    blocks: tuple[str, ...] = ()
    url: str = ""
    took_ms: float = 0.0
    because: str = field(default="")  # id of the finding that silenced this one

    def named(self, name: str, milliseconds: float, here: str) -> Finding:
        """The same finding, signed by the check `name`; fixes run `here` unless they say where."""
        fixes = tuple(fix if fix.where else replace(fix, where=here) for fix in self.fix)
        return replace(self, id=self.id or name, took_ms=round(milliseconds, 3), fix=fixes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every key is always there."""
        return asdict(self)


def ok(observed: str = "") -> Finding:
    """All is well; `observed` says what was found."""
    return Finding("", "ok", "", observed)


def skip(reason: str) -> Finding:
    """The question does not arise on this host."""
    return Finding("", "skip", reason)


def unknown(reason: str) -> Finding:
    """The facts do not decide it, or no rule is known for this version."""
    return Finding("", "unknown", reason)


def fail(title: str, **facts: Any) -> Finding:
    """Something that stops training or makes it wrong."""
    return _bad("fail", title, facts)


def warn(title: str, **facts: Any) -> Finding:
    """Something that costs time or memory, or may fail later."""
    return _bad("warn", title, facts)


def _bad(status: str, title: str, facts: dict[str, Any]) -> Finding:
    fixes = facts.pop("fix", ())
    if isinstance(fixes, (str, Fix)):
        fixes = (fixes,)
    fixes = tuple(Fix(fix) if isinstance(fix, str) else fix for fix in fixes)
    evidence = tuple(
        item if isinstance(item, Evidence) else Evidence(*item)
        for item in facts.pop("evidence", ())
    )
    blocks = tuple(facts.pop("blocks", ("train",) if status == "fail" else ()))
    return Finding("", status, title, fix=fixes, evidence=evidence, blocks=blocks, **facts)
