"""The result for people: what is wrong, why, and the command that mends it; the rest in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from ftlab_doctor.finding import Finding

MARKS = {
    "fail": ("✗", "31;1"),
    "crash": ("☠", "35;1"),
    "warn": ("!", "33;1"),
    "ok": ("✓", "32"),
    "unknown": ("?", "36"),
    "skip": ("·", "2"),
}
ORDER = {"fail": 0, "crash": 1, "warn": 2, "unknown": 3, "ok": 4, "skip": 5}
GRAVE = (
    "train",
    "gpu",
    "nf4",
    "int8",
    "triton",
    "compile",
    "bf16",
    "flash",
    "multi-gpu",
    "workers",
)
MOST_FIXES = 3
WHERE = {"windows": "in Windows", "container": "in the container"}
NEEDS = {"root": "root", "reboot": "root, reboot", "host": "by hand"}


class Style:
    """Colour, or none."""

    def __init__(self, colour: bool) -> None:
        self.colour = colour

    def __call__(self, text: str, code: str) -> str:
        """The text in a colour."""
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour and text else text

    def mark(self, status: str) -> str:
        """The sign of a status."""
        sign, code = MARKS[status]
        return self(sign, code)


def ranked(findings: Iterable[Finding]) -> list[Finding]:
    """What must be mended first: failures before warnings, training before comfort."""

    def weight(finding: Finding) -> tuple[int, int]:
        blocks = [GRAVE.index(b) for b in finding.blocks if b in GRAVE]
        return ORDER[finding.status], min(blocks, default=len(GRAVE))

    return sorted(findings, key=weight)


def human(
    findings: list[Finding],
    head: str,
    width: int = 88,
    *,
    colour: bool = False,
    verbose: bool = False,
    here: str = "host",
    answer: Finding | None = None,
) -> str:
    """The whole text; `answer` is that to --for."""
    style = Style(colour)
    lines = [style("ftdoctor", "1") + "  " + style(head, "2"), ""]
    bad = ranked(f for f in findings if f.status in ("fail", "crash", "warn"))
    for place, finding in enumerate(bad):
        lines += _one(finding, style, width, place < MOST_FIXES or verbose, here)
    if verbose:
        for finding in ranked(f for f in findings if f.status in ("unknown", "ok", "skip")):
            said = finding.observed if finding.status == "ok" else finding.title
            lines.append(f"{style.mark(finding.status)} {finding.id:<28} {style(said, '2')}")
        lines.append("")
    if answer is not None:
        code = MARKS[answer.status][1]
        lines += [f"{style.mark(answer.status)} {style(answer.title, code)}", ""]
    lines.append(_count(findings, style))
    hints = []
    if bad and not verbose:
        hints.append("-v shows everything")
    if len([f for f in bad if f.fix]) > 0:
        hints.append("--fix-plan prints the fixes as a script")
    if hints:
        lines.append(style("; ".join(hints), "2"))
    return "\n".join(lines)


def _one(finding: Finding, style: Style, width: int, with_fix: bool, here: str) -> list[str]:
    import textwrap

    code = MARKS[finding.status][1]
    title = textwrap.wrap(finding.title, width - 2) or [""]
    lines = [
        f"{style.mark(finding.status)} {style(title[0], code)}",
        *(f"  {style(t, code)}" for t in title[1:]),
    ]
    detail = finding.why or (
        f"{finding.observed}" + (f"; expected {finding.expected}" if finding.expected else "")
    )
    if detail:
        lines += [f"  {style(t, '2')}" for t in textwrap.wrap(detail, width - 2)[:2]]
    for i, fix in enumerate(finding.fix[:1] if with_fix else ()):
        notes = [
            WHERE.get(fix.where, "on the host") if fix.where != here else "",
            NEEDS.get(fix.needs, ""),
        ]
        note = ", ".join(n for n in notes if n)
        lines.append(
            f"  {style('→' if i == 0 else ' ', '32;1')} {style(fix.cmd, '1')}"
            + (style(f"   [{note}]", "2") if note else "")
        )
    return [*lines, ""]


def _count(findings: list[Finding], style: Style) -> str:
    count = Counter(f.status for f in findings)
    silenced = sum(1 for f in findings if f.because)
    words = [
        (count["fail"], "failed", "31;1"), (count["crash"], "crashed", "35;1"), (count["warn"], "warnings" if count["warn"] > 1 else "warning", "33"),
        (count["ok"], "passed", "32"), (count["unknown"], "unknown", "36"), (count["skip"] - silenced, "not asked here", "2"), (silenced, "follow from the above", "2"),
    ]  # fmt: skip
    return " · ".join(style(f"{n} {word}", code) for n, word, code in words if n)


def listing(checks: Iterable[tuple[str, str]]) -> str:
    """The text of --list."""
    rows = list(checks)
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {asks}" for name, asks in rows)
