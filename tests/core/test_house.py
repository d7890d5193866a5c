"""What lies at the root: locks that match the stacks, text that names no machine, the version."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LOCKS = {"cu121": "env.lock", "cu128": "env-cu128.lock", "dev": "dev.lock", "tools": "tools.lock"}


def _pins(lock: str) -> dict[str, str]:
    text = (ROOT / lock).read_text("utf-8")
    return dict(re.findall(r"^([A-Za-z0-9._-]+)==([^\s;]+)", text, re.MULTILINE))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("group", LOCKS)
def test_a_lock_holds_what_its_group_asks(group: str) -> None:
    """The cheap half of the drift check; `make lock` is the thorough one."""
    pins = _pins(LOCKS[group])
    for requirement in PROJECT["dependency-groups"][group]:
        name, _, version = requirement.partition("==")
        assert _normal(name) in pins, f"{requirement} is missing: run make lock"
        assert version in ("", pins[_normal(name)]), f"{requirement} differs: run make lock"


@pytest.mark.parametrize("lock", LOCKS.values())
def test_every_pin_has_a_hash(lock: str) -> None:
    blocks = re.split(r"^(?=[A-Za-z0-9])", (ROOT / lock).read_text("utf-8"), flags=re.MULTILINE)
    pinned = [block for block in blocks if not block.startswith("#")]
    assert len(pinned) == len(_pins(lock)) > 0
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}", block) for block in pinned)


@pytest.mark.parametrize("stack", ["env.lock", "env-cu128.lock"])
def test_test_tools_fit_both_stacks(stack: str) -> None:
    tools, pins = _pins("dev.lock"), _pins(stack)
    shared = set(tools) & set(pins)
    assert shared
    assert {name: tools[name] for name in shared} == {name: pins[name] for name in shared}


@pytest.mark.parametrize("stack", ["env.lock", "env-cu128.lock"])
def test_what_the_package_needs_is_locked(stack: str) -> None:
    pins = _pins(stack)
    for requirement in PROJECT["project"]["dependencies"]:
        name, _, least = requirement.partition(">=")
        assert _version(pins[_normal(name)]) >= _version(least), requirement


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text))


def _tracked() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"],
            cwd=ROOT, capture_output=True, text=True, check=True,
        ).stdout.splitlines()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed if (ROOT / name).is_file()]


def test_no_text_names_a_machine_or_an_index() -> None:
    """A path of one machine or the host of one index would make the text wrong elsewhere."""
    homes = [rf"/{folder}/[\w.-]" for folder in ("work", "root", "Users", "opt/[a-z]+/simple")]
    options = ["--" + name for name in ("index-url", "extra-index-url", "find-links")]
    hosts = [r"files\." + "python" + "hosted", "py" + r"pi\.org", r"index\.[\w.]+/simple"]
    forbidden = re.compile("|".join([*homes, *options, *hosts]))
    files = _tracked()
    assert len(files) > 100
    for path in files:
        match = forbidden.search(path.read_text("utf-8"))
        assert not match, f"{path.relative_to(ROOT)}: {match and match[0]}"


def test_the_version_is_in_the_changelog() -> None:
    from ftlab import __version__

    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_readme_names_every_verb_and_command() -> None:
    from ftlab.cli import COMMANDS

    readme = (ROOT / "README.md").read_text("utf-8")
    for verb in (
        "setup",
        "demo",
        "test",
        "check",
        "gpu-test",
        "bench",
        "lock",
        "docs",
        "image",
        "image-smoke",
        "sbom",
    ):
        assert f"make {verb}" in readme, verb
    for command in COMMANDS:
        assert f"ftrun {command}" in readme, command


def test_the_readme_lists_every_family() -> None:
    from ftlab.models.families import FAMILIES

    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(FAMILIES) >= 9
    for family in FAMILIES:
        for architecture in [family.architecture]:
            assert f"`{architecture}`" in readme, architecture


def test_ci_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci/run").read_text("utf-8")
    assert "set -euo pipefail" in script
    assert "\nmake test\n" in script
    assert "FTLAB_TEST_COMPLETE=1" in script
    assert re.search(r"^\.ci/containers\b", script, re.MULTILINE)


@pytest.mark.parametrize("drift", [False, True])
def test_a_drift_of_the_locks_is_shown_refused_and_undone(tmp_path: Path, drift: bool) -> None:
    """`make lock CHECK=1` with an imitated resolver that moves one lock, or none."""
    for name in ("Makefile", "pyproject.toml", *LOCKS.values()):
        shutil.copy(ROOT / name, tmp_path)
    resolver = tmp_path / ".tools/bin/uv"
    resolver.parent.mkdir(parents=True)
    moved = 'case "$*" in *env.lock*) echo "moved==1" >> env.lock ;; esac\n' if drift else ""
    resolver.write_text(f"#!/bin/sh\n{moved}")
    resolver.chmod(0o755)
    key = hashlib.sha256((tmp_path / "tools.lock").read_bytes()).hexdigest()[:16]
    (tmp_path / f".tools/.done-{key}").touch()
    done = subprocess.run(
        ["make", "lock", "CHECK=1"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    for name in LOCKS.values():
        assert (tmp_path / name).read_bytes() == (ROOT / name).read_bytes(), name
    assert (done.returncode != 0) is drift, done.stderr
    assert ("+moved==1" in done.stdout) is drift
    assert ("drift from pyproject.toml" in done.stderr) is drift
