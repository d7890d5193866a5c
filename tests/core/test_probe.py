"""The probe's two sides: facts and errors travel through a file, and no child is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftlab import config, errors, probe
from ftlab.child import environment
from ftlab.errors import ConfigError, DataError, EnvironmentUnfit, FtlabError, Problem
from ftlab.facts import Facts, Machine, from_json, to_json

Spawn = Callable[..., "subprocess.Popen[str]"]


def parsed(model: str = "owner/none") -> Any:
    return config.parse(f"model: {model}\ndata: rows.jsonl\n")


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Replace the child's program by `code`, which gets REQUEST and ANSWER as arguments."""
    real = subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return real([command[0], "-c", code, *command[3:]], **options)

    monkeypatch.setattr(subprocess, "Popen", start)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError([Problem("a.b", "wrong", "do this"), Problem("", "also")]),
        DataError([Problem("data.source", "rows.jsonl, line 3: not JSON")]),
        EnvironmentUnfit("no such model"),
        errors.TryLater("network"),
        FtlabError("other"),
    ],
)
def test_errors_keep_class_and_problems(error: FtlabError) -> None:
    value = json.loads(json.dumps(probe.error_to_json(error)))
    again = probe._error_from(value)
    assert type(again) is type(error)
    assert str(again) == str(error)
    if isinstance(error, ConfigError) and isinstance(again, ConfigError):
        assert again.problems == error.problems


def test_a_class_of_another_module_becomes_its_parent() -> None:
    class Special(DataError):
        pass

    assert type(probe._error_from(probe.error_to_json(Special("x")))) is DataError
    odd = {"class": "annotations", "message": "x", "problems": []}
    assert type(probe._error_from(odd)) is FtlabError


def test_a_missing_model_is_an_error_of_the_caller() -> None:
    with pytest.raises(EnvironmentUnfit, match="is not in the local cache"):
        probe.collect(parsed("some-owner/none-of-that-name"))


def test_the_request_carries_the_config(
    monkeypatch: pytest.MonkeyPatch, make_facts: Callable[..., Facts], tmp_path: Path
) -> None:
    facts = tmp_path / "facts.json"
    facts.write_text(json.dumps({"facts": to_json(make_facts(gpus=("t4",)))}))
    child(
        monkeypatch,
        "import json, shutil, sys; request = json.load(open(sys.argv[1]));"
        "assert request['config']['model']['name'] == 'owner/none', request;"
        "assert request['cache'] is False and request['progress'] is False;"
        f"assert request['runs'] == '/somewhere'; shutil.copy({str(facts)!r}, sys.argv[2])",
    )
    found = probe.collect(parsed(), cache=False, progress=False, runs_dir="/somewhere")
    assert found == make_facts(gpus=("t4",))


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        ("raise SystemExit(3)", FtlabError, "ended with exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", FtlabError, "lack of memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", FtlabError, "by signal 11"),
        ("raise SystemExit(130)", KeyboardInterrupt, None),
    ],
)
def test_a_child_that_dies(
    monkeypatch: pytest.MonkeyPatch, code: str, error: type[BaseException], words: str | None
) -> None:
    child(monkeypatch, code)
    with pytest.raises(error, match=words):
        probe.collect(parsed())


def test_ctrl_c_ends_the_child(spawn: Spawn, tmp_path: Path) -> None:
    """Even one that does not hear Ctrl-C itself; nothing is left of it."""
    pid_file, deaf, caller = (tmp_path / name for name in ("pid", "deaf.py", "caller.py"))
    deaf.write_text(
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        f"open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    caller.write_text(
        "import subprocess\n"
        "from ftlab import config, probe\n"
        "real = subprocess.Popen\n"
        "def start(command, **options):\n"
        f"    return real([command[0], {str(deaf)!r}], **options)\n"
        "subprocess.Popen = start\n"
        "probe.collect(config.parse('model: m\\ndata: d\\n'))\n"
    )
    parent = spawn(caller, env=environment())
    deadline = time.monotonic() + 20
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(parent.pid, signal.SIGINT)
    parent.wait(20)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_machine_facts_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main(["--machine"]) == 0
    found = from_json(Machine, json.loads(capsys.readouterr().out))
    assert found.cpu_count >= 1


def test_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert probe.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_the_child_finds_the_same_ftlab() -> None:
    code = "import ftlab, ftlab_kernels; print(ftlab.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment(), cwd="/", check=True,
        capture_output=True, text=True,
    )  # fmt: skip
    import ftlab

    assert done.stdout.strip() == ftlab.__file__


def test_the_child_answers_in_this_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_facts: Callable[..., Facts]
) -> None:
    request = {"config": to_json(parsed()), "cache": True, "progress": False, "runs": "runs"}
    (tmp_path / "request").write_text(json.dumps(request))
    answer = tmp_path / "answer"

    def fails(_: Any) -> Facts:
        raise DataError("rows.jsonl, line 3: not JSON")

    def stopped(_: Any) -> Facts:
        raise KeyboardInterrupt

    for variable in ("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS"):
        monkeypatch.setenv(variable, "0")
    monkeypatch.setattr(probe, "_facts", lambda _: make_facts())
    assert probe.main([str(tmp_path / "request"), str(answer)]) == 0
    assert os.environ["TQDM_DISABLE"] == "1"
    assert probe.read_answer(answer, 0) == make_facts()
    monkeypatch.setattr(probe, "_facts", fails)
    assert probe.main([str(tmp_path / "request"), str(answer)]) == 0
    with pytest.raises(DataError, match="line 3"):
        probe.read_answer(answer, 0)
    answer.unlink()
    monkeypatch.setattr(probe, "_facts", stopped)
    assert probe.main([str(tmp_path / "request"), str(answer)]) == 130
    assert not answer.exists()
