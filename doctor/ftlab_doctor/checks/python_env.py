"""The Python environment: mixed installers, doubles, damage, shadows, and the lock."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ftlab_doctor import installer
from ftlab_doctor.checks.rivals import rivals
from ftlab_doctor.finding import Finding, fail, ok, skip, unknown, warn
from ftlab_doctor.host import Host
from ftlab_doctor.markers import normal
from ftlab_doctor.registry import check
from ftlab_doctor.versions import key, local

STACK = {
    "torch",
    "triton",
    "numpy",
    "transformers",
    "tokenizers",
    "bitsandbytes",
    "xformers",
    "peft",
    "safetensors",
    "accelerate",
}


@check("env.mixed", "Was torch installed by one installer only?", ("torch.installed",))
def mixed(host: Host) -> Finding:
    """conda's pytorch and pip's torch overwrite each other's libraries."""
    conda = {normal(p["name"]): p for p in host.facts.get("conda") or []}
    both = [n for n in ("pytorch", "libtorch", "pytorch-gpu") if n in conda]
    pip = [
        p
        for p in host.packages
        if normal(p["name"]) == "torch" and p.get("installer") in ("pip", "uv")
    ]
    if both and pip:
        return fail("torch was installed by conda and by pip: their libraries are mixed", observed=f"conda {both[0]} {conda[both[0]]['version']}, {pip[0]['installer']} torch {pip[0]['version']}",
                    expected="one of them", evidence=[("conda-meta", both[0]), (pip[0]["location"], f"torch {pip[0]['version']}")],
                    fix=[f"conda remove --force {' '.join(both)} && pip install --force-reinstall torch=={pip[0]['version'].split('+')[0]}"])  # fmt: skip
    return ok("one installer")


@check("env.duplicates", "Is every package there once?")
def duplicates(host: Host) -> Finding:
    """Two dist-infos of one name in one folder: an upgrade that was interrupted."""
    if not host.packages:
        return skip("no packages are listed")
    count = Counter((normal(p["name"]), p["location"]) for p in host.packages)
    double = [name for (name, _), n in count.items() if n > 1]
    leftovers = host.facts.get("leftovers") or []
    if not double and not leftovers:
        return ok(f"{len(host.packages)} packages")
    if double:
        worst = next((n for n in double if n in STACK), double[0])
        versions = [p["version"] for p in host.packages if normal(p["name"]) == worst]
        say = fail if worst in STACK else warn
        return say(
            f"{worst} is installed twice in one folder: {' and '.join(versions)}",
            observed=", ".join(double[:5]),
            expected="one version",
            evidence=[
                (p["location"], p.get("folder", p["version"]))
                for p in host.packages
                if normal(p["name"]) == worst
            ],
            why="an upgrade was interrupted; files of both are mixed",
            fix=f"pip uninstall -y {worst} && pip uninstall -y {worst}; pip install {worst}=={max(versions, key=lambda v: key(v) or ((), (0, 0), 0, 0)).split('+')[0]}",
        )
    return warn("An interrupted pip left a renamed package behind", observed=leftovers[0], evidence=[("site-packages", leftovers[0])],
                why="pip renames a package before it replaces it", fix=f"rm -r {leftovers[0]}", blocks=())  # fmt: skip


@check("env.damaged", "Are the files of the packages whole?", ("env.duplicates", "env.rivals"))
def damaged(host: Host) -> Finding:
    """Against RECORD: libraries that are missing or have another size."""
    if not host.packages:
        return skip("no packages are listed")
    told = {name for names, _, _ in rivals(host) for name in names}
    bad = [
        p
        for p in host.packages
        if (p.get("damaged") or p.get("broken"))
        and not p.get("inactive")
        and normal(p["name"]) not in told
    ]
    if not bad:
        return ok(f"{len(host.packages)} packages")
    worst = next(
        (p for p in bad if normal(p["name"]) in STACK or p["name"].startswith("nvidia")), bad[0]
    )
    what = worst.get("broken") or worst["damaged"][0]
    grave = normal(worst["name"]) in STACK or worst["name"].startswith("nvidia")
    return (fail if grave else warn)(
        f"{worst['name']} {worst['version']} is damaged: {what}", observed=what, expected="as its RECORD says",
        evidence=[(worst["location"], line) for line in (worst.get("damaged") or [what])[:3]],
        why="a full disk, an interrupted install, or two packages that own the same file",
        fix=f"pip install --force-reinstall --no-deps --no-cache-dir {worst['name']}=={worst['version'].split('+')[0]}",
    )  # fmt: skip


@check("env.user-site", "Do imports come from this environment, not from ~/.local?")
def user_site(host: Host) -> Finding:
    """The user's own site-packages come before the system's, and into environments that allow it."""
    folder = host.python.get("user_site")
    if not folder or not host.python.get("user_site_on"):
        return ok("the user's site is off")
    there = [p for p in host.packages if p["location"] == folder and normal(p["name"]) in STACK]
    elsewhere = {normal(p["name"]) for p in host.packages if p["location"] != folder}
    hides = [p for p in there if normal(p["name"]) in elsewhere]
    if hides:
        return fail(f"{hides[0]['name']} {hides[0]['version']} in ~/.local hides the one of this environment", observed=folder,
                    expected=str(host.python.get("platlib")), evidence=[(folder, f"{p['name']} {p['version']}") for p in hides[:4]],
                    fix=["export PYTHONNOUSERSITE=1", f"python -m pip uninstall {' '.join(p['name'] for p in hides)}  # of ~/.local"])  # fmt: skip
    venv = host.python.get("prefix") != host.python.get("base_prefix") or host.python.get("conda")
    if there and venv:
        return warn(
            f"{there[0]['name']} is imported from ~/.local, not from this environment",
            observed=folder,
            evidence=[(folder, f"{p['name']} {p['version']}") for p in there[:4]],
            fix="export PYTHONNOUSERSITE=1",
        )
    return ok("nothing there hides anything")


@check("env.shadowed", "Does nothing shadow a module?")
def shadowed(host: Host) -> Finding:
    """A file or folder of the same name that comes earlier on the path."""
    names = host.python.get("names")
    if not isinstance(names, dict):
        return unknown("the folders of the path were not listed")
    path = list(host.python.get("path") or [])
    cwd = host.python.get("cwd")
    order = (
        path if cwd in path or host.python.get("safe_path") else [cwd, *path]
    )  # scripts started here see it first
    installed = {p["location"] for p in host.packages}
    for place, folder in enumerate(order):
        if folder in installed or folder not in names:
            continue
        later = {
            name
            for other in order[place + 1 :]
            if other in installed
            for name in names.get(other, [])
        }
        for name in names[folder]:
            if name in ("ftlab", "ftlab_kernels") or not _shadows(name, later):
                continue
            soft = folder == cwd and folder not in path
            say = warn if soft else fail
            return say(f"{name} in {folder} hides the real module {name}", observed=f"{folder}/{name}", expected="nothing of that name before site-packages",
                       evidence=[("sys.path", folder)], why="Python imports the first one it finds",
                       fix=[f"mv {folder}/{name}.py {folder}/my_{name}.py  # or rename the folder {name}", "export PYTHONSAFEPATH=1"])  # fmt: skip
    return ok("nothing")


def _shadows(name: str, later: set[str]) -> bool:
    from ftlab_doctor.collect.python import IMPORTS, STANDARD

    if name in STANDARD:
        return name not in ("test", "utils", "site")
    return name in later or (name in ("kernels",) and name in IMPORTS)


@check("env.variables", "Do PYTHON* variables leave the environment alone?")
def variables(host: Host) -> Finding:
    """PYTHONHOME breaks every venv; PYTHONPATH may bring packages of another Python."""
    home, path = host.env("PYTHONHOME"), host.env("PYTHONPATH")
    if home:
        return fail(
            "PYTHONHOME is set: this Python uses another one's library",
            observed=home,
            expected="not set",
            evidence=[("PYTHONHOME", home)],
            fix="unset PYTHONHOME",
        )
    version = ".".join(str(host.python.get("version", "")).split(".")[:2])
    strange = [p for p in (path or "").split(":") if "site-packages" in p or "dist-packages" in p]
    other = [p for p in strange if "python3" in p and f"python{version}" not in p]
    if other:
        return fail(
            f"PYTHONPATH brings packages of another Python: {other[0]}",
            observed=str(path),
            expected=f"python{version}",
            evidence=[("PYTHONPATH", str(path))],
            fix="unset PYTHONPATH",
        )
    foreign = [
        p
        for p in strange
        if p != host.python.get("platlib")
        and any(q["location"] == p and normal(q["name"]) in STACK for q in host.packages)
    ]
    if (
        foreign
        and host.python.get("platlib")
        and any(
            q["location"] == host.python["platlib"] and normal(q["name"]) in STACK
            for q in host.packages
        )
    ):
        return warn(
            "PYTHONPATH puts another environment before this one",
            observed=foreign[0],
            evidence=[("PYTHONPATH", str(path))],
            fix="unset PYTHONPATH",
        )
    return ok(f"PYTHONPATH={path}" if path else "none is set")


@check("env.pip", "Does `pip` belong to this Python?", ("env.variables",))
def pip(host: Host) -> Finding:
    """Else packages land elsewhere and imports fail."""
    for name in ("PIP_USER", "PIP_TARGET", "PIP_PREFIX"):
        value = host.env(name) or ""
        if value and value.lower() not in ("0", "false", "no", "off"):
            return warn(f"{name} is set: pip puts packages where this Python does not look first", observed=value, expected="not set", blocks=(),
                        evidence=[(name, value)], fix=f"unset {name}")  # fmt: skip
    found = host.python.get("pip")
    prefix, base = str(host.python.get("prefix", "")), str(host.python.get("base_prefix", ""))
    if not isinstance(found, dict):
        return skip("no pip on PATH")
    if prefix == base and not host.python.get("conda"):
        return ok(found["path"])
    where, interpreter = found.get("path", ""), found.get("interpreter", "")
    if where.startswith(prefix + "/") or interpreter.startswith(prefix + "/"):
        return ok(where)
    active = host.env("VIRTUAL_ENV") or host.env("CONDA_PREFIX")
    if active and active != prefix and not prefix.startswith(active):
        why = "another environment is active in this shell"
    else:
        why = "this environment is not activated"
    return warn(f"`pip` of this shell installs into another Python: {where}", observed=where, expected=f"{prefix}/bin/pip", blocks=(),
                evidence=[("which pip", where), ("sys.executable", str(host.python.get("executable")))], why=why,
                fix=f"{installer.example(host)}  # or: source {prefix}/bin/activate")  # fmt: skip


@check("env.base", "Is the Python that this environment was made from still there?")
def base(host: Host) -> Finding:
    """A venv is a link; an upgrade of the system may change what it points to."""
    config = host.python.get("venv")
    if not isinstance(config, str):
        return skip("no venv")
    fields = {
        k.strip(): v.strip() for k, _, v in (line.partition("=") for line in config.splitlines())
    }
    made = fields.get("version_info") or fields.get("version") or ""
    now = str(host.python.get("version", ""))
    if made and now and made.split(".")[:2] != now.split(".")[:2]:
        return fail(f"This environment was made for Python {made} and now runs {now}: its packages are invisible", observed=now, expected=made,
                    evidence=[("pyvenv.cfg", f"version = {made}")], fix="make the environment anew: python3 -m venv --clear .venv && make setup")  # fmt: skip
    if fields.get("include-system-site-packages") == "true":
        system = [
            p
            for p in host.packages
            if not p["location"].startswith(str(host.python.get("prefix")))
            and normal(p["name"]) in STACK
        ]
        if system:
            return warn(
                f"This environment also sees the system's packages: {system[0]['name']} comes from there",
                blocks=(),
                evidence=[("pyvenv.cfg", "include-system-site-packages = true")],
                fix="set it to false in pyvenv.cfg and install what is then missing",
            )
    return ok(made)


@check("env.lock", "Is what the lock says installed?", ("torch.installed",))
def lock(host: Host) -> Finding:
    """Against the lock that fits best; every difference is listed."""
    locks: dict[str, Any] = {path: pins for path, pins in host.section("locks").items() if pins}
    if not locks:
        return skip("no env.lock here")
    if not host.packages:
        return unknown("no packages are listed")
    path, wrong = min(
        ((p, _differences(host, pins)) for p, pins in locks.items()), key=lambda item: len(item[1])
    )
    total, name = len(locks[path]), path.rsplit("/", 1)[-1]
    if not wrong:
        return ok(f"{name}: {total} of {total}")
    if len(wrong) > total * 0.6:
        return skip(f"this environment was not made from {name}")
    stack = [line for line in wrong if line.split()[0] in STACK or line.startswith("nvidia")]
    return warn(f"{len(wrong)} of {total} packages differ from {name}" + (f", among them {stack[0]}" if stack else ""), observed="; ".join(wrong[:12]),
                expected=name, evidence=[(name, line) for line in wrong[:40]], why="results can only be compared within one set", blocks=("reproduce",),
                fix="make setup" if name == "env.lock" else f"LOCK={name} make setup")  # fmt: skip


def _differences(host: Host, pins: dict[str, str]) -> list[str]:
    found = []
    for name, version in sorted(pins.items()):
        have = host.version(name)
        same = have is not None and (
            have == version or (not local(version) and have.split("+")[0] == version)
        )
        if not same:
            found.append(f"{name} {have or 'missing'} (lock: {version})")
    return found
