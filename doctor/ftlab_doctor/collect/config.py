"""Facts for --for CONFIG: what the config asks for, and what `ftrun plan` says of it here."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from typing import Any

from ftlab_doctor.collect.commands import run
from ftlab_doctor.collect.reading import text

KEYS = (
    "precision", "bf16", "fp16", "tf32", "attn_implementation", "flash_attention", "flash_attn", "load_in_8bit", "load_in_4bit",
    "torch_compile", "optim", "name", "base_model", "model_name_or_path", "xformers_attention",
)  # fmt: skip


def collect(facts: dict[str, Any], path: str) -> None:
    """Fill `config`. Keys of TRL and Axolotl configs are understood too."""
    content = text(path, 1 << 18)
    found: dict[str, Any] = {"path": path, "readable": isinstance(content, str)}
    if isinstance(content, str):
        found["asked"] = asked(content)
        if "model:" in content and "data:" in content:
            found |= _plan(path)
    facts["config"] = found


def asked(content: str) -> dict[str, str]:
    """Values of the keys that decide what a card must be able to do."""
    found: dict[str, str] = {}
    for key in KEYS:
        match = re.search(rf"(?:^|[\s{{,]){key}:\s*[\"']?([^\s,}}\"'#]+)", content, re.MULTILINE)
        if match:
            found[key] = match[1]
    return found


def _plan(path: str) -> dict[str, Any]:
    """The plan in short, by a child process; nothing of ftlab is imported here."""
    beside = os.path.join(os.path.dirname(sys.executable), "ftrun")
    program = beside if os.path.exists(beside) else shutil.which("ftrun")
    if not program:
        return {"planned": False}
    answer = run([program, "plan", "--json", path], 120.0, 4_000_000)
    found: dict[str, Any] = {
        "planned": True,
        "rc": answer.get("rc"),
        "said": (answer.get("err") or answer.get("error") or "")[-1500:],
    }
    try:
        plan = json.loads(answer.get("out") or "")
    except ValueError:
        return found
    found["memory"] = sum(plan.get("memory", {}).values())
    found["disk"] = plan.get("disk_bytes", 0)
    found["warnings"] = list(plan.get("warnings", []))[:5]
    found["device"] = (plan.get("decisions", {}).get("device") or {}).get("value")
    return found
