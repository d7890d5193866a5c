"""The fixes as a script: what can be run here runs, everything else is a comment."""

from __future__ import annotations

import subprocess

import pytest

from ftlab_doctor import fixplan
from ftlab_doctor.finding import Fix, fail, warn


def _line(fix: Fix, here: str = "host") -> str:
    return fixplan.script([fail("x", fix=fix).named("a.b", 1, here)], here).splitlines()[-1]


@pytest.mark.parametrize(
    "command",
    ["unset A", "export A=1", "pip install 'x<2'", "uv pip install --python /v/bin/python x", "/v/bin/python -m pip install x",
     "sudo apt install y", "LOCK=env-cu128.lock make setup", "FTLAB_KERNELS=off ftrun train run.yaml"],
)  # fmt: skip
def test_what_runs_here_is_a_line_of_the_script(command: str) -> None:
    assert _line(Fix(command, "root" if command.startswith("sudo") else "none")) == command


@pytest.mark.parametrize(
    "fix",
    [
        Fix("sudo reboot", "reboot"), Fix("docker run --gpus all ..."), Fix("export HF_HOME=/path/on/a/big/disk"),
        Fix("reseat the card", "host"), Fix("wsl --update", "none", "windows"), Fix("export HTTPS_PROXY=http://USER:PASSWORD@HOST:PORT"),
        Fix("set in the config: precision: fp16"), Fix("hf download <the model's id> --local-dir x"), Fix("install NVIDIA's driver"),
    ],
)  # fmt: skip
def test_gaps_reboots_advice_and_other_places_are_comments(fix: Fix) -> None:
    assert _line(fix) == f"#$ {fix.cmd}"


def test_only_the_first_way_runs_and_the_worst_comes_first() -> None:
    found = [warn("w", fix=["unset A", "unset B"]).named("a", 1, "host"), fail("f", fix="unset C").named("b", 1, "host")]  # fmt: skip
    lines = fixplan.script(found).splitlines()
    assert lines.index("unset C") < lines.index("unset A")
    assert "#$ unset B" in lines


def test_the_shell_reads_every_plan() -> None:
    """Titles and commands with quotes, newlines and dollars are no danger to it."""
    found = [fail("it's `bad` $(rm)\nsudo rm -rf /", fix=["export A='it is'", "a\nb"]).named("a", 1, "host")]  # fmt: skip
    text = fixplan.script(found)
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0
    assert not [line for line in text.splitlines() if line.startswith("sudo")]
