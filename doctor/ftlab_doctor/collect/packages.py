"""Installed distributions, read from their metadata: versions, needs, and whether they are whole."""

from __future__ import annotations

import json
import os
import re
from typing import Any

from ftlab_doctor.collect.reading import names, put, text
from ftlab_doctor.markers import normal

# Their absence or a wrong size breaks training; the big ones' thousands of other files are left.
CHECKED = (b".so,", b".so.", b"/__init__.py,", b"/version.py,", b".json,")
FIELD = re.compile(r"^(Name|Version|Requires-Dist|Requires-Python): (.*?)\s*$", re.MULTILINE)
LIMIT = 4_000  # files checked of one package
PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)==([^\s;\\]+)", re.MULTILINE)


def collect(facts: dict[str, Any], lock: str | None = None) -> None:
    """Fill `packages`, `leftovers`, `conda` and `locks`."""
    python = facts["python"]
    folders = list(dict.fromkeys([*python["path"], python["platlib"], python["user_site"]]))
    facts["packages"], facts["leftovers"] = [], []
    for folder in folders:
        inside = names(folder) or []
        facts["leftovers"] += [
            os.path.join(folder, name) for name in inside if name.startswith("~")
        ]
        active = folder in python["path"]
        for name in inside:
            if name.endswith((".dist-info", ".egg-info")):
                package = _package(folder, name)
                if package:
                    facts["packages"].append(package | ({} if active else {"inactive": True}))
    _conda(facts)
    _locks(facts, lock)


def _package(folder: str, name: str) -> dict[str, Any] | None:
    base = os.path.join(folder, name)
    old = name.endswith(".egg-info")
    header = _header(os.path.join(base, "PKG-INFO" if old else "METADATA") if os.path.isdir(base) else base)  # fmt: skip
    if header is None:
        stem = name.rsplit(".", 1)[0].rsplit("-", 1)
        return {"name": stem[0], "version": stem[-1], "location": folder, "broken": "no METADATA"}
    fields: dict[str, list[str]] = {}
    for key, value in FIELD.findall(header):
        fields.setdefault(key, []).append(value)
    if "Name" not in fields or "Version" not in fields:
        return {
            "name": name.split("-")[0],
            "version": "0",
            "location": folder,
            "broken": "no Name in METADATA",
        }
    package: dict[str, Any] = {
        "name": fields["Name"][0], "version": fields["Version"][0], "location": folder, "folder": name,
    }  # fmt: skip
    needs = [need for need in fields.get("Requires-Dist", []) if "extra ==" not in need]
    package |= {"requires": needs} if needs else {}
    installer = text(os.path.join(base, "INSTALLER"), 64)
    if isinstance(installer, str):
        package["installer"] = installer.strip()
    wheel = text(os.path.join(base, "WHEEL"), 2048)
    tags = re.findall(r"^Tag: (\S+)", wheel, re.MULTILINE) if isinstance(wheel, str) else []
    if tags and not all(tag.endswith("-none-any") for tag in tags):
        package["tags"] = tags[:4]
    damage = _damage(folder, os.path.join(base, "RECORD"))
    return package | ({"damaged": damage} if damage else {})


def _header(path: str) -> str | None:
    """The fields before the description, which is long and not read."""
    limit = 4096
    while True:
        content = text(path, limit)
        if not isinstance(content, str):
            return None
        head, end, _ = content.replace("\r\n", "\n").partition("\n\n")
        if end or len(content) < limit // 4 or limit >= 1 << 18:
            return head
        limit *= 4


def _lines(content: bytes) -> list[bytes]:
    """The lines with a file of CHECKED. Of tens of thousands, only these become objects."""
    found = {}
    for ending in CHECKED:
        at = content.find(ending)
        while at >= 0:
            start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
            found[start] = content[start : end if end >= 0 else len(content)]
            at = content.find(ending, at + len(ending))
    return [found[start] for start in sorted(found) if found[start].count(b",") > 1]


def _damage(folder: str, record: str) -> list[str]:
    """Files that RECORD lists and that are gone or have another size: "path: what"."""
    try:
        with open(record, "rb") as file:
            content = file.read(1 << 24)
    except OSError:
        return []
    found: list[str] = []
    root = os.fsencode(folder) + b"/"
    for line in _lines(content)[:LIMIT]:
        path, _, was = line.rstrip().rsplit(b",", 2)
        path = path.strip(b'"')
        shown = path.decode("utf-8", "replace")
        try:
            size = os.stat(root + path).st_size
        except OSError:
            found.append(f"{shown}: missing")
        else:
            if was.isdigit() and size != int(was):
                found.append(f"{shown}: {size} bytes, was {int(was)}")
        if len(found) >= 5:
            break
    return found


def _conda(facts: dict[str, Any]) -> None:
    """Packages that conda put into this prefix."""
    folder = os.path.join(facts["python"]["prefix"], "conda-meta")
    found = []
    for name in names(folder) or []:
        match = re.match(r"(.+)-([^-]+)-([^-]+)\.json\Z", name)
        if match:
            found.append({"name": match[1], "version": match[2], "build": match[3]})
    if found:
        facts["conda"] = found


def _locks(facts: dict[str, Any], lock: str | None) -> None:
    """Pins of env.lock and its relatives: given, in $FTLAB_LOCK, or beside our own source."""
    paths = [lock or os.environ.get("FTLAB_LOCK") or ""]
    if not paths[0]:
        for folder in _roots(facts):
            inside = names(folder) or []
            paths += [
                os.path.join(folder, n) for n in inside if re.fullmatch(r"env[\w-]*\.lock", n)
            ]
    for path in dict.fromkeys(filter(None, paths)):
        content = text(path, 1 << 21)
        if isinstance(content, str):
            pins = {normal(name): version for name, version in PIN.findall(content)}
            put(facts, "locks", path, pins)
        elif lock:
            put(facts, "locks", path, False)


def _roots(facts: dict[str, Any]) -> list[str]:
    """The working folder and those above it, and where an editable ftlab lies."""
    folder = facts["python"]["cwd"]
    roots = [folder]
    while len(roots) < 4 and os.path.dirname(folder) != folder:
        folder = os.path.dirname(folder)
        roots.append(folder)
    for package in facts["packages"]:
        if normal(package["name"]) == "ftlab":
            direct = text(
                os.path.join(package["location"], package.get("folder", ""), "direct_url.json"),
                4096,
            )
            if isinstance(direct, str):
                url = json.loads(direct).get("url", "")
                roots.append(url.removeprefix("file://"))
    ours = os.path.dirname(
        os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    )
    return [*roots, ours]
