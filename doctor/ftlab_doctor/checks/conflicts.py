"""Packages against each other: what their metadata demands, and what is known beyond that."""

from __future__ import annotations

from typing import Any

from ftlab_doctor import rules
from ftlab_doctor.finding import Finding, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.markers import applies, normal, parse
from ftlab_doctor.registry import Check, add, check
from ftlab_doctor.versions import release, satisfies

CORE = {
    "torch", "torchvision", "triton", "transformers", "tokenizers", "huggingface-hub", "peft", "trl", "accelerate",
    "datasets", "safetensors", "numpy", "bitsandbytes", "ftlab",
}  # fmt: skip
Broken = tuple[dict[str, Any], str, str, str]  # package, needed name, specifier, what is there


def environment(host: Host) -> dict[str, str]:
    """What markers are evaluated in."""
    version = str(host.python.get("version", "3.11.0"))
    return {
        "python_version": ".".join(version.split(".")[:2]), "python_full_version": version, "sys_platform": "linux",
        "platform_system": "Linux", "platform_machine": str(host.system.get("machine", "x86_64")), "os_name": "posix",
        "implementation_name": str(host.python.get("implementation", "cpython")), "platform_python_implementation": "CPython",
        "implementation_version": version, "platform_release": host.kernel, "platform_version": "",
    }  # fmt: skip


def broken(host: Host) -> list[Broken]:
    """Every demand of an active package that is not met."""
    where, found = environment(host), []
    conda = {normal(p["name"]): p["version"] for p in host.facts.get("conda") or []}
    for package in host.packages:
        if package.get("inactive") or host.package(package["name"]) is not package:
            continue
        for line in package.get("requires", []):
            need = parse(line)
            if need is None or applies(need.marker, where) is not True:
                continue
            have = host.version(need.name) or conda.get(need.name)
            if have is None:
                found.append((package, need.name, need.specifier, ""))
            elif need.specifier and satisfies(have, need.specifier) is False:
                found.append((package, need.name, need.specifier, have))
    return found


def _grave(item: Broken) -> bool:
    package, name, specifier, have = item
    if normal(package["name"]) not in CORE:
        return False
    if name.startswith("nvidia-") or name == "cuda-bindings":
        wanted = release(specifier.lstrip("=<>~! "))
        return not have or release(have)[:1] != wanted[:1]
    return name in CORE and name != "ftlab"


@check(
    "conflict.metadata",
    "Does each package have what it demands?",
    ("env.mixed", "env.duplicates", "env.shadowed", "env.base", "torch.installed"),
)
def metadata(host: Host) -> Finding:
    """What `pip check` does, with the ones that stop training told from the rest."""
    if not host.packages:
        return skip("no packages are listed")
    found = broken(host)
    ours = {
        f"{a}|{b}"
        for rule in rules.tables()["conflicts"]
        if _hit(host, rule)
        for a in rule["if"]
        for b in rule["if"]
    }
    left = [item for item in found if f"{normal(item[0]['name'])}|{item[1]}" not in ours]
    if not left:
        return (
            ok(f"{len(host.packages)} packages") if not found else ok("told by a rule of its own")
        )
    left.sort(key=lambda item: not _grave(item))
    package, name, specifier, have = left[0]
    more = f" (and {len(left) - 1} more)" if len(left) > 1 else ""
    title = f"{package['name']} {package['version']} wants {name}{specifier}; {have or 'it'} is {'installed' if have else 'missing'}{more}"
    facts: dict[str, Any] = {
        "observed": have or "missing", "expected": f"{name}{specifier}",
        "evidence": [(f"{p['name']} {p['version']}", f"{n}{s}: {h or 'missing'}") for p, n, s, h in left[:6]],
        "fix": [f"pip install '{name}{specifier}'"],
    }  # fmt: skip
    return fail(title, **facts) if _grave(left[0]) else warn(title, blocks=(), **facts)


def _hit(host: Host, rule: rules.Rule) -> dict[str, str] | None:
    """The versions that make a rule apply."""
    conda = {normal(p["name"]): p["version"] for p in host.facts.get("conda") or []}
    versions: dict[str, str] = {}
    for name, specifier in rule["if"].items():
        have = host.version(name) or conda.get(name)
        if specifier == "!":
            if have is not None:
                return None
            continue
        if have is None or not satisfies(have.split("+")[0], specifier):
            return None
        versions[name] = have
    return versions


def _rule_check(rule: rules.Rule) -> Check:
    def ask(host: Host) -> Finding:
        if not host.packages:
            return unknown("no packages are listed")
        versions = _hit(host, rule)
        if versions is None:
            conda = {normal(p["name"]) for p in host.facts.get("conda") or []}
            there = all(host.version(n) or n in conda for n, s in rule["if"].items() if s != "!")
            return (
                ok(" ".join(f"{n} {host.version(n)}" for n in rule["if"] if host.version(n)))
                if there
                else skip("not installed together")
            )
        title = rule["title"].format(**versions)
        say = fail if rule["status"] == "fail" else warn
        blocks = tuple(rule.get("blocks", ["train"]))
        return say(
            title,
            observed=", ".join(f"{n} {v}" for n, v in versions.items()),
            fix=rule["fix"],
            url=rule["source"],
            blocks=blocks,
            evidence=[(n, v) for n, v in versions.items()],
        )

    asks = "Do " + " and ".join(rule["if"]) + " go together?"
    return Check(f"conflict.{rule['id']}", asks, ask, ("env.duplicates",))


for _rule in rules.tables()["conflicts"]:
    add(_rule_check(_rule))
