"""The command line, in processes of its own: exit codes, speed, memory, live against --host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import doctor_fixtures as fixtures
import pytest

ROOT = Path(__file__).resolve().parents[2]


def _environment() -> dict[str, str]:
    """Without coverage in the children: what is measured is the doctor."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return kept | {"PYTHONPATH": str(ROOT / "doctor"), "PYTHONSAFEPATH": "1"}


def _doctor(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ftlab_doctor", *arguments], input=stdin, capture_output=True, text=True, timeout=60, check=False, env=_environment()
    )  # fmt: skip


def _file(tmp_path: Path, name: str, change: dict[str, object] | None = None) -> str:
    path = tmp_path / "host.json"
    path.write_text(json.dumps(fixtures.change(fixtures.host(name), change or {})))
    return str(path)


@pytest.mark.parametrize(
    ("name", "change", "code"),
    [
        ("ubuntu-t4", {}, 0),
        ("cpu-laptop", {}, 4),
        ("ubuntu-t4", {"env": {"PYTHONHOME": "/usr"}}, 3),
    ],
)
def test_exit_codes(name: str, change: dict[str, object], code: int, tmp_path: Path) -> None:
    done = _doctor("--host", _file(tmp_path, name, change))
    assert done.returncode == code, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"],
        ["--check", "gpu.presen"],
        ["--host", "/nowhere"],
        ["--for", "/nowhere"],
        ["--lock", "/nowhere"],
    ],
)
def test_usage_is_2(arguments: list[str]) -> None:
    done = _doctor(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_a_check_that_is_asked_for_is_answered(tmp_path: Path) -> None:
    """Also where all is well, or where the question does not arise."""
    file = _file(tmp_path, "ubuntu-t4")
    done = _doctor("--host", file, "--check", "driver.cuda", "wsl.version")
    assert "✓ driver.cuda" in done.stdout
    assert "not WSL" in done.stdout


def test_a_snapshot_says_the_same_as_the_machine() -> None:
    live = json.loads(_doctor("--json").stdout)
    taken = _doctor("snapshot").stdout
    again = json.loads(_doctor("--host", "-", "--json", stdin=taken).stdout)
    changing = {"observed", "evidence", "took_ms"}
    strip = [
        [{k: v for k, v in f.items() if k not in changing} for f in x["findings"]]
        for x in (live, again)
    ]
    assert strip[0] == strip[1]


@pytest.mark.quiet
def test_the_fast_part_is_fast_and_small(slowness: float, tmp_path: Path) -> None:
    """Wall time of the best of five, compiled once as an installed package is; memory of the worst."""
    code = (
        "import resource, subprocess, sys, time\nstart = time.perf_counter()\n"
        "subprocess.run([sys.executable, '-m', 'ftlab_doctor', '--json'], stdout=subprocess.DEVNULL)\n"
        "print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    environment = _environment() | {"PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    rows = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        ).stdout.split()
        for _ in range(6)
    ]  # fmt: skip
    bar = 1.5 if Path("/dev/nvidiactl").exists() else 0.5
    assert min(float(seconds) for seconds, _ in rows[1:]) < bar * slowness, rows
    assert max(float(megabytes) for _, megabytes in rows) < 60


def test_a_missing_driver_is_one_red_line_with_its_fix(tmp_path: Path) -> None:
    row = next(r for r in fixtures.corpus() if r["name"] == "module-not-loaded")
    done = _doctor("--host", _file(tmp_path, row["base"], row["break"]))
    assert done.stdout.count("✗") == 1
    assert "→ sudo apt install" in done.stdout


def test_fix_plan_is_a_script_that_the_shell_accepts(tmp_path: Path) -> None:
    done = _doctor(
        "--host",
        _file(tmp_path, "ubuntu-t4", {"env": {"PYTHONHOME": "/usr", "BNB_CUDA_VERSION": "124"}}),
        "--fix-plan",
    )
    assert "unset PYTHONHOME" in done.stdout
    assert subprocess.run(["sh", "-n"], input=done.stdout, text=True, check=False).returncode == 0
