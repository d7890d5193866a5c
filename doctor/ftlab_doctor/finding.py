"""A finding: what one check says, with its evidence and the commands that mend it.

Tuples with names rather than dataclasses, whose import alone is a tenth of the doctor's time.
"""

from __future__ import annotations

from typing import Any, NamedTuple

STATUSES = ("ok", "warn", "fail", "skip", "unknown", "crash")
NEEDS = ("none", "root", "host", "reboot")
PLACES = ("host", "container", "windows")


class Fix(NamedTuple):
    """One command that mends, where it runs ("" is wherever the doctor ran) and what it needs."""

    cmd: str
    needs: str = "none"
    where: str = ""


class Evidence(NamedTuple):
    """Where a fact was read (a file, a command, a variable) and what stood there."""

    source: str
    value: str


class Finding(NamedTuple):
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
    because: str = ""  # id of the finding that silenced this one

    def named(self, name: str, milliseconds: float, here: str) -> Finding:
        """The same finding, signed by the check `name`; fixes run `here` unless they say where."""
        fixes = tuple(fix if fix.where else fix._replace(where=here) for fix in self.fix)
        return self._replace(id=self.id or name, took_ms=round(milliseconds, 3), fix=fixes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; every key is always there."""
        return {
            **self._asdict(), "evidence": [e._asdict() for e in self.evidence],
            "fix": [f._asdict() for f in self.fix], "blocks": list(self.blocks),
        }  # fmt: skip


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
