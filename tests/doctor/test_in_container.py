"""--in-container with an engine that is a script: what it is asked, and every way it can refuse."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import doctor_fixtures as fixtures
import pytest

from ftlab_doctor import cli, in_container

Engine = Path
REFUSALS = {
    "permission": (
        "docker: permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: dial unix /var/run/docker.sock: connect: permission denied.",
        126, "usermod -aG docker",
    ),
    "no-daemon": ("docker: Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", 125, "enable --now docker"),
    "absent": ("docker: Error response from daemon: No such image: nowhere:1", 125, "docker pull nowhere:1"),
    "absent-podman": ("Error: nowhere:1: image not known", 125, "pull nowhere:1"),
    "no-toolkit": ('docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].', 125, "nvidia-container-toolkit"),
    "no-python": ("no python in the image", 97, "no python in the image"),
    "old-python": ('File "/ftdoctor/ftlab_doctor/__main__.py", line 3\nSyntaxError: invalid syntax', 1, "3.9 or newer"),
    "not-shared": ("/usr/bin/python3: No module named ftlab_doctor", 1, "see this machine's files"),
    "silent": ("", 137, "ended with 137"),
}  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that alone is PATH, and in which `docker` may be put."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", os.fspath(folder))
    monkeypatch.delenv("FTLAB_CONTAINER_ENGINE", raising=False)
    return folder


def _put(folder: Path, code: str, name: str = "docker") -> None:
    (folder / name).write_text(f"#!{sys.executable}\nimport json, sys\n{code}\n")
    (folder / name).chmod(0o755)


def test_the_snapshot_from_inside_is_judged(
    engine: Engine, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    facts = fixtures.change(
        fixtures.host("in-docker-a100"), {"places": {"shm": {"total": 64 << 20, "free": 64 << 20}}}
    )
    facts["identity"] = {"users": ["insider"], "hosts": ["c0ffee5ba5e"], "home": "/root"}
    facts["env"]["HF_HOME"] = "/data/insider/c0ffee5ba5e"
    (tmp_path / "facts.json").write_text(json.dumps(facts))
    _put(engine, f"json.dump(sys.argv[1:], open({str(tmp_path / 'asked')!r}, 'w'))\nprint(open({str(tmp_path / 'facts.json')!r}).read())")  # fmt: skip
    code = cli.main(["--in-container", "mine:1", "--json"])
    out = capsys.readouterr().out
    found = {f["id"]: f["status"] for f in json.loads(out)["findings"]}
    assert (code, found["container.shm"]) in ((4, "warn"), (3, "fail"))
    assert "insider" not in out
    assert "c0ffee5ba5e" not in out
    asked = json.loads((tmp_path / "asked").read_text())
    assert asked[:4] == ["run", "--rm", "--pull", "never"]
    assert asked[asked.index("--entrypoint") + 2] == "mine:1"
    assert f"{in_container.PACKAGE}:/ftdoctor/ftlab_doctor:ro" in asked


@pytest.mark.parametrize("refusal", REFUSALS)
def test_the_engine_s_own_words_and_what_to_do(
    refusal: str, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    words, code, advice = REFUSALS[refusal]
    _put(engine, f"print({words!r}, file=sys.stderr); sys.exit({code})")
    assert cli.main(["--in-container", "nowhere:1"]) == cli.BROKEN
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.startswith("error: the container could not be asked: ")
    assert words.splitlines()[-1][:40] in streams.err if words else True
    assert advice in streams.err


@pytest.mark.parametrize("answer", ["", "rubbish", "[]", '{"format": "other"}'])
def test_an_answer_that_is_no_snapshot(
    answer: str, engine: Engine, capsys: pytest.CaptureFixture[str]
) -> None:
    _put(engine, f"print({answer!r})")
    assert cli.main(["--in-container", "x"]) == cli.BROKEN
    assert "is no snapshot" in capsys.readouterr().err


def test_no_engine(engine: Engine, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--in-container", "x"]) == cli.BROKEN
    assert "neither docker nor podman is on PATH" in capsys.readouterr().err


def test_an_engine_that_hangs_is_left(engine: Engine) -> None:
    _put(engine, "import time; time.sleep(60)")
    with pytest.raises(in_container.NoContainer, match=r"no answer in 0\.5 s"):
        in_container.collect("x", gpus=False, seconds=0.5)


def test_the_engine_may_be_named(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    _put(engine, "print('mine', file=sys.stderr); sys.exit(3)", "my-engine")
    monkeypatch.setenv("FTLAB_CONTAINER_ENGINE", "my-engine")
    with pytest.raises(in_container.NoContainer, match="mine"):
        in_container.collect("x", gpus=False)


@pytest.mark.parametrize(
    ("engine_name", "flags"),
    [("docker", ["--gpus", "all"]), ("podman", ["--device", "nvidia.com/gpu=all"])],
)
def test_each_engine_is_asked_for_gpus_in_its_own_words(engine_name: str, flags: list[str]) -> None:
    argv = in_container.arguments(engine_name, "x", gpus=True)
    assert argv[argv.index(flags[0]) : argv.index(flags[0]) + 2] == flags
    assert flags[0] not in in_container.arguments(engine_name, "x", gpus=False)


def test_the_command_inside_finds_a_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last words of the command, run by this machine's shell: the real snapshot comes out."""
    inner = in_container.arguments("docker", "x", gpus=False)[-1]
    (tmp_path / "python3").symlink_to(sys.executable)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", os.fspath(in_container.PACKAGE.parent))
    answer = in_container.run(["sh", "-c", inner], 60, 4_000_000)
    assert json.loads(answer["out"])["format"] == "ftdoctor-snapshot"
