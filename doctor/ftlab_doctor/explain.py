"""`ftdoctor explain`: a pasted traceback mapped to its cause and fix; what is not known is said to be so."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("explain.json")
LAST = re.compile(
    r"^(?:[\w.]*\.)?[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning|Fault)\b.*", re.MULTILINE
)
MOST = 5


@dataclass(frozen=True)
class Cause:
    """One known message: the line that matched, why it comes, what to do, and the check that would see it."""

    line: str
    cause: str
    fix: str
    check: str
    row: int


@lru_cache(maxsize=1)
def known() -> list[dict[str, Any]]:
    """The table, with its patterns compiled."""
    rows: list[dict[str, Any]] = json.loads(FILE.read_text("utf-8"))["causes"]
    return [
        {**row, "patterns": [re.compile(p, re.MULTILINE) for p in row["match"]]} for row in rows
    ]


def explain(text: str) -> list[Cause]:
    """Causes in the order of how much they explain: the last message of a log first."""
    found: list[tuple[int, Cause]] = []
    for row in known():
        matches = [m for pattern in row["patterns"] for m in pattern.finditer(text)]
        if matches:
            last = max(matches, key=lambda m: m.start())
            found.append(
                (
                    last.start(),
                    Cause(
                        _line(text, last.start()),
                        row["cause"],
                        row["fix"],
                        row["check"],
                        row["row"],
                    ),
                )
            )
    return _distinct(sorted(found, key=lambda item: item[0]))


def _distinct(found: list[tuple[int, Cause]]) -> list[Cause]:
    """One cause for each line, in the order of the table: the particular stands before the general."""
    order = {row["cause"]: i for i, row in enumerate(known())}
    best: dict[str, Cause] = {}
    for _, cause in found:
        if cause.line not in best or order[cause.cause] < order[best[cause.line].cause]:
            best[cause.line] = cause
    return list(reversed(best.values()))[:MOST]


def _line(text: str, position: int) -> str:
    start = text.rfind("\n", 0, position) + 1
    end = text.find("\n", position)
    return text[start : end if end >= 0 else len(text)].strip()[:300]


def unexplained(text: str) -> str:
    """The last line that looks like an error."""
    matches = list(LAST.finditer(text))
    return matches[-1][0][:300] if matches else ""


def main(text: str, *, as_json: bool = False) -> int:
    """Print the causes; 0 if any is known, else 4."""
    from ftlab_doctor.redact import Redactor

    clean = Redactor()
    causes = explain(text)
    if as_json:
        rows = [{**asdict(c), "line": clean.text(c.line)} for c in causes]
        print(
            json.dumps(
                {"causes": rows, "unexplained": "" if causes else clean.text(unexplained(text))},
                indent=1,
            )
        )
        return 0 if causes else 4
    if not text.strip():
        print("nothing was given: ftdoctor explain < log.txt", file=sys.stderr)
        return 2
    if not causes:
        last = unexplained(text)
        print("unknown: no message in this log is one that the doctor knows.")
        if last:
            print(f"  the last error is: {clean.text(last)}")
        print(
            "  → ftdoctor --deep   # may find the cause by trying\n  → ftdoctor --report report.md   # to paste into an issue"
        )
        return 4
    for cause in causes:
        print(f"✗ {clean.text(cause.line)}\n  {cause.cause}\n  → {cause.fix}")
        print(f"  (ftdoctor --check {cause.check} looks for it)\n" if cause.check else "")
    return 0
