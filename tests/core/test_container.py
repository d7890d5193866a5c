"""What makes the image and the conda environments: own rules, and no word that went stale."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftlab.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
ENTRYPOINT = ROOT / "container" / "entrypoint"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, ROOT / "container" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def instructions(word: str) -> list[str]:
    joined = DOCKERFILE.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith(f"{word} ")]


def test_every_base_has_a_digest_and_none_is_fetched_besides() -> None:
    stages = {line.split(" AS ")[1] for line in instructions("FROM")}
    bases = {line.split()[1] for line in instructions("FROM")} - stages
    assert bases == {"${BASE_IMAGE}"}
    assert re.search(r"^ARG BASE_IMAGE=\S+@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE)
    assert "# syntax" not in DOCKERFILE
    assert "<<" not in DOCKERFILE
    assert "curl" not in DOCKERFILE
    assert "git clone" not in DOCKERFILE


def test_the_image_is_not_root_and_sets_what_it_must() -> None:
    assert instructions("USER") == ["USER 1000:1000"]
    (environment,) = instructions("ENV")
    assert "PYTHONSAFEPATH=1" in environment
    assert "LD_LIBRARY_PATH" not in DOCKERFILE.replace("verify", "")
    assert instructions("HEALTHCHECK")
    assert instructions("ENTRYPOINT")[0].startswith('ENTRYPOINT ["/usr/bin/tini"')


def test_everything_from_an_index_has_a_hash() -> None:
    for line in instructions("RUN"):
        if "pip sync" in line or "-m pip install" in line:
            assert "--require-hashes" in line


def test_the_label_and_the_argument_name_one_digest() -> None:
    found = re.findall(r"sha256:[0-9a-f]{64}", DOCKERFILE)
    assert len(found) == 2
    assert len(set(found)) == 1


def test_the_context_holds_what_is_copied() -> None:
    kept = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text("utf-8"), re.MULTILINE))
    for line in instructions("COPY"):
        for source in line.split()[1:-1]:
            assert source == "${LOCK}" or source.split("/")[0] in kept, source
    assert {"env.lock", "env-cu128.lock"} <= kept


def test_the_entrypoint_knows_every_command() -> None:
    text = ENTRYPOINT.read_text("utf-8")
    known = {w.strip() for row in re.findall(r"^    ([a-z -|*]+)\)$", text, re.MULTILINE)
             for w in row.split("|")}  # fmt: skip
    assert set(COMMANDS) <= known


def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(ENTRYPOINT), *words], capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )  # fmt: skip


@pytest.mark.skipif(
    any(os.path.exists(file) for file in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg")),
    reason="this machine has a GPU",
)
def test_without_a_gpu_the_switch_is_named() -> None:
    done = run("train", "x.yaml")
    assert done.returncode == 3
    assert "--gpus all" in done.stderr
    assert "FTLAB_CPU=1" in done.stderr


def test_another_command_is_run_as_it_is() -> None:
    assert run("echo", "train").stdout == "train\n"


@pytest.fixture
def imitated(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The entry point with a card, an ftrun that only tells, and a doctor of one finding."""
    (tmp_path / "nvidiactl").touch()
    script = tmp_path / "entrypoint"
    text = ENTRYPOINT.read_text("utf-8")
    script.write_text(text.replace("/dev/nvidiactl", f"{tmp_path}/nvidiactl"))

    def start(*words: str, code: int = 0, check: str = "", **more: str) -> Any:
        said = json.dumps({"findings": [{"id": check, "status": "fail"}] if check else []})
        doctor = (
            f"if [ \"$1\" = --json ]; then echo '{said}'; else echo 'the doctor on {check}'; fi\n"
            f"exit {code}"
        )
        for name, body in (("ftdoctor", doctor), ("ftrun", 'echo "ftrun $*"')):
            (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
            (tmp_path / name).chmod(0o755)
        (tmp_path / "python").unlink(missing_ok=True)
        (tmp_path / "python").symlink_to(sys.executable)
        return subprocess.run(
            ["sh", str(script), *words], capture_output=True, text=True, timeout=60, check=False,
            env={"PATH": f"{tmp_path}:{os.environ['PATH']}", **more},
        )  # fmt: skip

    return start


def test_what_the_doctor_finds_fatal_stops_a_run(imitated: Callable[..., Any]) -> None:
    """Driver and capability are the doctor's to judge; the way around its word is named."""
    for check in ("driver.cuda", "torch.arch"):
        done = imitated("train", "x.yaml", code=3, check=check)
        assert (done.returncode, done.stdout) == (3, "")
        assert f"the doctor on {check}" in done.stderr
        assert "FTLAB_UNCHECKED=1" in done.stderr


@pytest.mark.parametrize(
    "case",
    [
        {"code": 0}, {"code": 4, "check": ""}, {"code": 3, "check": "container.shm"}, {"code": 1},
        {"code": 3, "check": "driver.cuda", "FTLAB_CPU": "1"},
        {"code": 3, "check": "driver.cuda", "FTLAB_UNCHECKED": "1"},
    ],
)  # fmt: skip
def test_what_does_not_stop_a_run(imitated: Callable[..., Any], case: dict[str, Any]) -> None:
    done = imitated("train", "x.yaml", **case)
    assert (done.returncode, done.stdout) == (0, "ftrun train x.yaml\n")


def test_commands_that_only_look_are_not_judged(imitated: Callable[..., Any]) -> None:
    for words in (["runs"], ["--help"], ["compare", "a", "b"]):
        done = imitated(*words, code=3, check="driver.cuda")
        assert (done.returncode, done.stdout, done.stderr) == (0, f"ftrun {' '.join(words)}\n", "")
    assert imitated(code=3, check="driver.cuda").stdout == "ftrun \n"  # no terminal, no argument


@pytest.mark.parametrize(
    ("case", "healthy"),
    [({"code": 0}, True), ({"code": 4}, True), ({"code": 3}, False), ({"code": 1}, False),
     ({"code": 3, "FTLAB_CPU": "1"}, True)],
)  # fmt: skip
def test_health_is_the_doctor_s_fast_part(
    imitated: Callable[..., Any], case: dict[str, Any], healthy: bool
) -> None:
    assert imitated("--healthcheck", **case).returncode == (0 if healthy else 1)


def test_scripts_parse() -> None:
    for name in ("build", "smoke"):
        subprocess.run(["bash", "-n", str(ROOT / "container" / name)], check=True)
    for name in ("engine", "containers", "run"):
        subprocess.run(["bash", "-n", str(ROOT / ".ci" / name)], check=True)
    for name in ("entrypoint", "apt-install"):
        subprocess.run(["sh", "-n", str(ROOT / "container" / name)], check=True)


@pytest.mark.parametrize("lock", ["env.lock", "env-cu128.lock"])
def test_the_sbom_lists_the_lock(lock: str) -> None:
    command = [sys.executable, str(ROOT / "container/sbom.py"), str(ROOT / lock)]
    first, second = (subprocess.run(command, capture_output=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout
    made = json.loads(first.stdout)
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.5")
    pins = load("verify").pins((ROOT / lock).read_text("utf-8"))
    assert {c["name"]: c["version"] for c in made["components"]} == pins
    assert all(c["properties"] for c in made["components"])


def test_verify_knows_both_stacks_and_a_driver_when_it_sees_one() -> None:
    verify = load("verify")
    for lock in ("env.lock", "env-cu128.lock"):
        assert verify.pins((ROOT / lock).read_text("utf-8"))["torch"] in verify.STACKS
    assert verify.DRIVER.match("libcuda.so.1")
    assert verify.DRIVER.match("libnvidia-ml.so.550.54")
    assert not verify.DRIVER.match("libcudart.so.12")


@pytest.mark.parametrize(
    ("name", "lock"),
    [("environment.yml", "env.lock"), ("environment-cu128.yml", "env-cu128.lock")],
)
def test_conda_installs_the_lock_by_hash(name: str, lock: str) -> None:
    made = yaml.safe_load((ROOT / "conda" / name).read_text("utf-8"))
    python, pip, wheels = made["dependencies"]
    assert re.fullmatch(r"python=3\.11", python)
    assert pip == "pip"
    assert wheels == {"pip": ["--require-hashes", f"-r ../{lock}"]}
    assert made["variables"] == {"PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1"}
    assert made["channels"][-1] == "nodefaults"


def test_compose_reserves_gpus_and_locks_down() -> None:
    made = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    for service in made["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "cache:/cache" in service["volumes"]
    gpu = made["services"]["ftlab"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpu == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]


def test_the_list_of_files_sees_content_mode_and_links(tmp_path: Path) -> None:
    files = load("files")
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "a").chmod(0o640)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to("../a")
    (tmp_path / "to-folder").symlink_to("folder")
    lines = list(files.listing(str(tmp_path)))
    digest = hashlib.sha256(b"x").hexdigest()
    owner = f"{os.getuid()}:{(tmp_path / 'a').stat().st_gid}"
    assert lines[0] == f"{digest} 100640 {owner} {tmp_path}/a"
    assert lines[1].startswith("-> folder ")
    assert lines[2].startswith("-> ../a ")
    assert lines[2].endswith("/folder/link")
    (tmp_path / "a").write_bytes(b"y")
    assert next(files.listing(str(tmp_path))) != lines[0]
