"""--report FILE: everything a maintainer asks for, redacted, ready to be pasted into an issue."""

from __future__ import annotations

import json
from typing import Any

from ftlab_doctor import __version__, stack
from ftlab_doctor.finding import Finding
from ftlab_doctor.host import Host
from ftlab_doctor.render import ranked

PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "transformers",
    "tokenizers",
    "huggingface-hub",
    "peft",
    "trl",
    "accelerate",
    "datasets",
    "bitsandbytes",
    "xformers",
    "flash-attn",
    "safetensors",
    "ftlab",
)


def markdown(host: Host, findings: list[Finding], removed: dict[str, int] | None) -> str:
    """The report. `removed` says what the redaction took out; None if it was off."""
    lines = ["### ftdoctor report", "", f"`ftdoctor {__version__}` · {stack.summary(host)}", ""]
    bad = ranked(f for f in findings if f.status in ("fail", "warn", "crash"))
    lines += ["#### Findings", ""] if bad else ["Nothing was found to be wrong.", ""]
    for finding in bad:
        lines += [f"- **{finding.status}** `{finding.id}`: {finding.title}"]
        lines += [f"  - observed: `{finding.observed}`"] if finding.observed else []
        lines += [f"  - expected: `{finding.expected}`"] if finding.expected else []
        lines += [f"  - `{e.source}`: `{e.value}`" for e in finding.evidence[:4]]
    lines += ["", "#### Packages", "", "| package | version |", "|---|---|"]
    lines += [f"| {name} | {host.version(name)} |" for name in PACKAGES if host.version(name)]
    lines += [
        "",
        "<details><summary>All checks</summary>",
        "",
        "| check | status | |",
        "|---|---|---|",
    ]
    lines += [
        f"| {f.id} | {f.status} | {(f.observed if f.status == 'ok' else f.title).replace('|', '/')[:100]} |"
        for f in findings
    ]
    lines += [
        "",
        "</details>",
        "",
        "<details><summary>Facts</summary>",
        "",
        "```json",
        json.dumps(_facts(host), indent=1),
        "```",
        "",
        "</details>",
        "",
    ]
    if removed is None:
        lines.append(
            "Not redacted: names, addresses and identifiers of this machine are in this report."
        )
    else:
        what = (
            ", ".join(f"{count} {kind}" for kind, count in removed.items())
            or "nothing was found to remove"
        )
        lines.append(f"Removed before writing: {what}.")
    return "\n".join(lines) + "\n"


def _facts(host: Host) -> dict[str, Any]:
    return {
        name: host.facts.get(name)
        for name in ("system", "env", "nvml", "cuda", "builds", "places", "devices")
        if name in host.facts
    }
