"""Hosts and the failure corpus: ordinary machines, and what makes each of them fail."""

from __future__ import annotations

import copy
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from ftlab_doctor import registry
from ftlab_doctor.finding import Finding
from ftlab_doctor.host import Host

HERE = Path(__file__).parent


@lru_cache(maxsize=32)
def _read(name: str) -> str:
    return (HERE / "hosts" / f"{name}.json").read_text("utf-8")


def host(name: str) -> dict[str, Any]:
    """The facts of an ordinary, healthy machine with one of the two pinned environments.

    Its parts are shared by every caller: a test changes them by `change`, which copies.
    """
    return dict(_host(name))


@lru_cache(maxsize=32)
def _host(name: str) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads(_read(name))
    merged = merge(json.loads(_read(facts.pop("uses"))), facts)
    return merge(merged, merged.pop("override", {}))


def hosts() -> list[str]:
    """Names of the ordinary machines."""
    return sorted(p.stem for p in (HERE / "hosts").glob("*.json") if not p.stem.startswith("env-"))


def merge(base: Any, change: Any) -> Any:
    """A JSON merge patch (RFC 7386): null removes."""
    if not isinstance(change, dict) or not isinstance(base, dict):
        return change
    merged = dict(base)
    for name, value in change.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(merged.get(name), value)
    return merged


def change(facts: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """A patch; "packages" names versions (or fields), "gpus" and "cards" patch every one of them."""
    patch = copy.deepcopy(patch)
    packages, gpus, cards = patch.pop("packages", {}), patch.pop("gpus", {}), patch.pop("cards", {})
    facts = merge(facts, patch)
    for name, what in packages.items():
        facts["packages"] = _package(facts, name, what)
    if gpus:
        facts["nvml"] = facts["nvml"] | {"gpus": [merge(g, gpus) for g in facts["nvml"]["gpus"]]}
        shown = {k: gpus[k] for k in ("name", "cc", "total") if k in gpus}
        devices = [device | shown for device in facts["cuda"].get("devices", [])]
        facts["cuda"] = facts["cuda"] | ({"devices": devices} if devices else {})
    if cards:
        facts["pci"] = [merge(card, cards) for card in facts["pci"]]
    return facts


def _package(facts: dict[str, Any], name: str, what: Any) -> list[dict[str, Any]]:
    named = [p for p in facts["packages"] if _normal(p["name"]) == _normal(name)]
    rest = [p for p in facts["packages"] if p not in named]
    old = named[0] if named else None
    if what is None:
        return rest
    fields = what if isinstance(what, dict) else {"version": what, "requires": []}
    made = {
        "name": name,
        "version": "1",
        "location": facts["python"]["platlib"],
        "installer": "pip",
    }
    if fields.pop("twice", False) and old:
        return [*rest, old, {**old, **fields}]
    return [*rest, {**(old or made), **fields}]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-")


def corpus() -> list[dict[str, Any]]:
    """The rows: name, base, break, expect (id, status), fix."""
    return [json.loads(p.read_text("utf-8")) for p in sorted((HERE / "corpus").glob("*.json"))]


def asked(name: str, patch: dict[str, Any], check: str) -> Finding:
    """What one check says of a changed host; its causes run, and may silence it."""
    findings = registry.run(Host(change(host(name), patch)), [check])
    return next(f for f in findings if f.id == check)
