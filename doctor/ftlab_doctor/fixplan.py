"""--fix-plan: the fixes as a shell script that is read before it is run. Nothing is executed here."""

from __future__ import annotations

import re

from ftlab_doctor.finding import Finding, Fix
from ftlab_doctor.render import ranked

COMMAND = re.compile(
    r"(sudo|pip|uv pip|\S*/python[\d.]*|python|python3|conda|apt|apt-get|export|unset|make|mv|rm|chmod|printf|echo|docker|nvidia-smi|hf|ulimit|cd|find|mkdir|wsl|ftrun|ftdoctor|LOCK=\S+|FTLAB_\w+=\S+)\b"
)
PLACE = {
    "host": "on the host",
    "container": "in the container",
    "windows": "in Windows (PowerShell)",
}
NEED = {
    "none": "no root",
    "root": "needs root",
    "host": "by hand",
    "reboot": "needs root and a reboot",
}


def script(findings: list[Finding], here: str = "host") -> str:
    """The script. What runs elsewhere, has a gap to fill in, or reboots, is commented out."""
    bad = [f for f in ranked(findings) if f.status in ("fail", "warn") and f.fix]
    lines = [
        "#!/bin/sh",
        "# Fixes that ftdoctor proposes, most urgent first. Read it, then run what you agree with.",
        "set -eu",
    ]
    if not bad:
        lines.append("# Nothing needs mending.")
    for number, finding in enumerate(bad, 1):
        title = " ".join(finding.title.split())  # a name with a line break is no line of a script
        lines += ["", f"# {number}. {finding.status}: {title}  ({finding.id})"]
        for choice, fix in enumerate(finding.fix):
            lines.append(
                f"#    {PLACE.get(fix.where, fix.where)}, {NEED.get(fix.needs, fix.needs)}"
                + ("; instead of, or after, the one above" if choice else "")
            )
            command = " ".join(fix.cmd.splitlines())
            lines.append(command if choice == 0 and _runs(fix, here) else f"#$ {command}")
    return "\n".join(lines) + "\n"


def _runs(fix: Fix, here: str) -> bool:
    gap = re.search(
        r"\.\.\.|<[A-Za-z][^<>=]*>|/path/|[A-Z]{4,}:[A-Z]|\bHOST\b|\bFOLDER\b|\bUSER:", fix.cmd
    )
    return (
        fix.where == here
        and fix.cmd.isprintable()
        and fix.needs in ("none", "root")
        and bool(COMMAND.match(fix.cmd))
        and not gap
    )
