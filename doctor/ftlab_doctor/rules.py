"""The rule base, rules.json: finding rules, and listing those that were not confirmed for a year."""

from __future__ import annotations

import json
import os
import sys
import time
from functools import lru_cache
from typing import Any

from ftlab_doctor.versions import satisfies

FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "rules.json")
YEAR = 365
Rule = dict[str, Any]


@lru_cache(maxsize=1)
def tables() -> dict[str, list[Rule]]:
    """Every table of the file."""
    with open(FILE, encoding="utf-8") as file:
        content: dict[str, Any] = json.load(file)
    return {name: rows for name, rows in content.items() if isinstance(rows, list)}


def first(table: str, **wanted: object) -> Rule | None:
    """The first rule of a table whose fields are as wanted."""
    return next((r for r in tables()[table] if all(r.get(k) == v for k, v in wanted.items())), None)


def capability(feature: str) -> tuple[int, int]:
    """The lowest compute capability that has a feature."""
    rule = first("capability", id=feature)
    assert rule is not None, feature
    return rule["cc"][0], rule["cc"][1]


def driver_floor(cuda: str) -> str | None:
    """The oldest driver branch for a CUDA version such as "12.1"; None if no rule knows it."""
    rule = first("driver_floor", cuda=int(cuda.split(".")[0]))
    return rule["driver"] if rule else None


def torch_arch(version: str, cuda: str) -> list[str] | None:
    """The architectures in the official wheel; None if no rule knows it."""
    for rule in tables()["torch_arch"]:
        if rule["cuda"] == cuda and satisfies(version, rule["torch"]):
            return list(rule["arch"])
    return None


def family(device: str) -> Rule | None:
    """The family of a PCI device number such as "0x1eb8"."""
    try:
        number = int(device, 16)
    except ValueError:
        return None
    for rule in tables()["families"]:
        if int(rule["from"], 16) <= number <= int(rule["to"], 16):
            return rule
    return None


def assembles(ptxas: str, cc: tuple[int, int]) -> bool | None:
    """Whether a ptxas of that version knows a card; None if no rule tells.

    A version between two rows knows at least what the older row has, less what the newer has not.
    """
    wanted = (int(ptxas.split(".")[0]), int([*ptxas.split("."), "0"][1]))
    name, older, newer = f"sm_{cc[0]}{cc[1]}", None, None
    for rule in tables()["ptxas"]:
        number = tuple(map(int, rule["ptxas"].split(".")))
        if number == wanted:
            return name in rule["arch"]
        older, newer = (rule, newer) if number < wanted else (older, newer or rule)
    if older is None:
        return None
    known = name in older["arch"]
    if newer is not None:
        return known if (name in newer["arch"]) == known else None
    least = min(int(arch.removeprefix("sm_")) for arch in older["arch"])
    return True if known else False if cc[0] * 10 + cc[1] < least else None


def aged(today: float | None = None, days: int = YEAR) -> list[tuple[str, str, str, str]]:
    """(table, rule, date, source) of the rules last confirmed more than `days` ago."""
    now = time.time() if today is None else today
    old = []
    for table, rows in tables().items():
        for rule in rows:
            then = time.mktime(time.strptime(rule["date"], "%Y-%m-%d"))
            if now - then > days * 86400:
                old.append((table, rule["id"], rule["date"], rule["source"]))
    return old


def main(today: float | None = None) -> int:
    """Print the old rules; 0 if there are none, else 4."""
    old = aged(today)
    for row in old:
        print("  ".join(row))
    total = sum(len(rows) for rows in tables().values())
    print(f"{total} rules, {len(old)} older than a year", file=sys.stderr)
    return 4 if old else 0


if __name__ == "__main__":
    sys.exit(main())
