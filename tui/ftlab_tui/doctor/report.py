"""What ftdoctor said: run as a child, its JSON read into findings, worst first."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftlab.errors import FtlabError
from ftlab_tui.new import children

RUN = "import sys; from ftlab_doctor.cli import main; sys.exit(main())"
ORDER = ("fail", "crash", "warn", "unknown", "ok", "skip")
SIGNS = {"fail": "✗", "crash": "☠", "warn": "!", "unknown": "?", "ok": "✓", "skip": "-"}
TONES = {"fail": "error", "crash": "error", "warn": "warning", "unknown": "secondary",
         "ok": "success"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's result."""

    id: str
    status: str
    title: str
    observed: str
    expected: str
    why: str
    fixes: tuple[tuple[str, str], ...]  # (command, what it needs)
    blocks: tuple[str, ...]
    evidence: tuple[str, ...]

    @property
    def group(self) -> str:
        """What the check is about: the first word of its id."""
        return self.id.replace("_", "-").partition("-")[0].partition(".")[0]


def read(text: str) -> list[Finding]:
    """Findings of `ftdoctor --json`, worst first.

    Raises:
        FtlabError: the text is no report.
    """
    try:
        value = json.loads(text)
        rows = value["findings"] if isinstance(value, Mapping) else value
        found = [_finding(row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FtlabError(f"ftdoctor gave no report: {error}") from None
    return sorted(found, key=lambda item: _rank(item.status))


def grouped(found: Sequence[Finding]) -> list[tuple[str, list[Finding]]]:
    """(group, its findings): worst first, both the groups and what is in them."""
    groups: dict[str, list[Finding]] = {}
    for item in sorted(found, key=lambda item: _rank(item.status)):
        groups.setdefault(item.group, []).append(item)
    return list(groups.items())


def _rank(status: str) -> int:
    return ORDER.index(status) if status in ORDER else ORDER.index("unknown")


def _finding(row: Mapping[str, Any]) -> Finding:
    fixes = tuple(
        (str(fix.get("cmd", "")), " ".join(str(fix[k]) for k in ("needs", "where") if fix.get(k)))
        if isinstance(fix, Mapping) else (str(fix), "")
        for fix in row.get("fix") or ()
    )  # fmt: skip
    evidence = tuple(
        ": ".join(str(part) for part in item.values()) if isinstance(item, Mapping) else str(item)
        for item in row.get("evidence") or ()
    )
    return Finding(
        id=str(row["id"]), status=str(row["status"]), title=str(row.get("title", row["id"])),
        observed=_text(row.get("observed")), expected=_text(row.get("expected")),
        why=_text(row.get("why")), fixes=fixes, evidence=evidence,
        blocks=tuple(map(str, row.get("blocks") or ())),
    )  # fmt: skip


def _text(value: Any) -> str:
    return "" if value is None else str(value)


async def ask(options: Sequence[str] = ()) -> str:
    """The text of `ftdoctor --json` with these options.

    Raises:
        FtlabError: the doctor itself failed.
    """
    with tempfile.TemporaryDirectory(prefix="ftui-doctor-") as folder:
        out = Path(folder) / "out"
        code, said = await children.run(["-c", RUN, "--json", *options], Path(folder), out)
        if code not in (0, 3, 4):
            raise FtlabError(f"ftdoctor failed (exit code {code}): {said}")
        return out.read_text(encoding="utf-8")


def summary(found: Sequence[Finding]) -> str:
    """`2 fail, 1 warn, 20 ok`."""
    counts = [(status, sum(item.status == status for item in found)) for status in ORDER]
    return ", ".join(f"{count} {status}" for status, count in counts if count) or "nothing checked"
