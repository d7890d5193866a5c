"""ftrun as people and machines use it: real processes, a fake plan and a fake trainer."""

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

from ftlab import cli
from ftlab.errors import ConfigError, Problem, TryLater
from ftlab.run import Run

DRIVER = Path(__file__).with_name("fake_ftrun.py")
Spawn = Callable[..., "subprocess.Popen[str]"]
CONFIG = "model: org/name\ndata: rows.jsonl  # mine\n"


class Ftrun:
    """Runs `ftrun` in a folder of its own, and knows the runs it made."""

    def __init__(self, folder: Path, spawn: Spawn) -> None:
        self.folder, self.spawn = folder, spawn
        (folder / "run.yaml").write_text(CONFIG)

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        outer = {name: value for name, value in os.environ.items() if name != "FTLAB_RUNS"}
        return self.spawn(DRIVER, *words, cwd=self.folder, env={**outer, **environment})

    def __call__(self, *words: str, **environment: str) -> tuple[int, str, str]:
        child = self.start(*words, **environment)
        out, err = child.communicate(timeout=60)
        return child.returncode, out, err

    def run(self) -> Run:
        (run,) = Run.all(self.folder / "runs")
        return run

    def until(self, condition: Callable[[], bool], seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.01)

    def until_step(self, step: int) -> Run:
        self.until(lambda: len(Run.all(self.folder / "runs")) == 1)
        run = self.run()
        self.until(lambda: run.status().step >= step)
        return run


@pytest.fixture
def ftrun(tmp_path: Path, spawn: Spawn) -> Any:
    tool = Ftrun(tmp_path, spawn)
    yield tool
    for run in Run.all(tmp_path / "runs"):
        process = run.process()
        if process and process.alive():
            process.signal(signal.SIGKILL, group=True)


# -- train ----------------------------------------------------------------------------------------


def test_train_to_the_end(ftrun: Ftrun) -> None:
    code, out, err = ftrun("train", "run.yaml")
    run = ftrun.run()
    assert (code, out) == (0, f"{run.path}\n")
    assert "the plan: 50 steps" in err
    assert f"run {run.id} is done" in err
    assert "\r" not in err  # no terminal, no bar
    assert run.config_path.read_text() == CONFIG
    assert run.id.startswith("sft-smollm2-135m-")


def test_train_for_a_machine(ftrun: Ftrun) -> None:
    code, out, err = ftrun("train", "run.yaml", "--json", "--name", "mine", "--set", "train.seed=7")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err.count("plan")) == (0, 0)
    assert lines[0] | {"pid": 0} == {
        "kind": "run", "run": "mine", "path": str(ftrun.run().path), "pid": 0,
    }  # fmt: skip
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 51))
    assert (lines[-1]["kind"], lines[-1]["state"], lines[-1]["code"]) == ("exit", "done", 0)
    assert "seed: 7" in ftrun.run().config_path.read_text()


def test_detach_show_runs_tail_and_stop(ftrun: Ftrun) -> None:
    code, out, err = ftrun("train", "run.yaml", "--detach", "--quiet", FAKE_STEP="0.2")
    run = ftrun.until_step(2)
    assert (code, out) == (0, f"{run.path}\n")
    assert "the plan" not in err
    assert run.liveness() == "running"
    assert " running " in ftrun("runs")[1]
    assert f"ftrun stop {run.id}" in ftrun("show", "last")[1]
    code, out, err = ftrun("request", "last", "save", "--wait")
    assert (code, "answered" in out) == (0, True)
    assert ftrun("request", run.id, "eval", "--json")[:2] == (
        0, json.dumps({"run": run.id, "number": 2}, indent=2) + "\n",
    )  # fmt: skip
    assert "step 1: loss" in ftrun("tail", run.id, "-n", "100")[1]
    code, out, err = ftrun("stop", run.id, "--wait", "--json")
    assert (code, json.loads(out)["state"]) == (0, "stopped")
    assert f"ftrun resume {run.path}" in err
    assert ftrun("request", run.id, "save")[0] == 75
    code, out, err = ftrun("stop", run.id)
    assert (code, "is not running: it is stopped" in err) == (0, True)
    code, out, err = ftrun("resume", run.id)
    assert (code, run.liveness()) == (0, "done")
    code, out, err = ftrun("resume", run.id)
    assert (code, "is done" in err) == (2, True)


def test_stop_now(ftrun: Ftrun) -> None:
    ftrun("train", "run.yaml", "--detach", FAKE_STEP="0.2")
    ftrun.until_step(2)
    code, _, err = ftrun("stop", "last", "--now")
    assert (code, "stopped: SIGTERM" in err) == (0, True)
    assert "stopped" in ftrun("show", "last")[1]


def test_waiting_for_what_never_comes(
    ftrun: Ftrun, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ftlab.commands import stop
    from ftlab.launch import local

    ftrun("train", "run.yaml", "--detach", FAKE_STEP="0.2", FAKE_DEAF="1")
    run = ftrun.until_step(1)
    monkeypatch.setattr(stop, "_PATIENCE", 0.0)
    answers = iter(["running", "stalled", "running", "lost"])
    monkeypatch.setattr(local, "wait", lambda run, seconds: next(answers))
    where = ["--runs-dir", str(run.path.parent)]
    assert cli.main(["stop", run.id, "--wait", *where]) == 0
    assert capsys.readouterr().err.count("no answer for 60 s") == 1
    monkeypatch.setattr(local, "stop", lambda run, seconds, **options: "running")
    assert cli.main(["stop", run.id, "--now", *where]) == 75
    run.process().signal(signal.SIGKILL)  # type: ignore[union-attr]
    ftrun.until(lambda: run.liveness() == "lost")
    assert "lost" in ftrun("show", "last")[1]


def test_a_second_trainer_is_refused(ftrun: Ftrun) -> None:
    ftrun("train", "run.yaml", "--detach", FAKE_STEP="0.2")
    run = ftrun.until_step(2)
    code, _, err = ftrun("resume", "last")
    assert code == 3
    assert f"process {run.status().pid} " in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_saves_and_stops(ftrun: Ftrun, number: int) -> None:
    child = ftrun.start("train", "run.yaml", FAKE_STEP="0.2")
    run = ftrun.until_step(3)
    os.kill(child.pid, number)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert err.count("saving; press Ctrl-C again to leave it running in the background") == 1
    assert (run.liveness(), (run.exit() or {})["code"]) == ("stopped", 130)
    assert f"ftrun resume {run.path}" in err


def test_a_second_ctrl_c_leaves_the_trainer_alone(ftrun: Ftrun) -> None:
    child = ftrun.start("train", "run.yaml", FAKE_STEP="0.2", FAKE_DEAF="1")
    run = ftrun.until_step(3)
    assert child.stderr
    os.kill(child.pid, signal.SIGINT)
    while "saving" not in child.stderr.readline():
        pass
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert run.liveness() == "running"
    assert f"ftrun tail -f {run.path}" in err
    assert f"ftrun stop --now {run.path}" in err


def _until_it_reads_stdin(pid: int) -> None:
    """Imports are behind it then; how long they take is the machine's affair."""
    deadline = time.monotonic() + 60
    while not Path(f"/proc/{pid}/syscall").read_text("ascii").startswith("0 0x0 "):
        assert time.monotonic() < deadline, "never read its standard input"
        time.sleep(0.02)


def test_ctrl_c_before_anything_started(ftrun: Ftrun, spawn: Spawn) -> None:
    child = spawn(DRIVER, "train", "-", cwd=ftrun.folder, stdin=subprocess.PIPE)
    assert child.stdin
    _until_it_reads_stdin(child.pid)
    os.kill(child.pid, signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert (child.returncode, err.splitlines()[-1]) == (130, "interrupted")
    assert not (ftrun.folder / "runs").exists()


def test_a_killed_trainer_is_lost_and_resumes(ftrun: Ftrun) -> None:
    code, _, err = ftrun("train", "run.yaml", FAKE_DIE_AT="20")
    run = ftrun.run()
    assert code == 1
    assert "is lost" in err
    assert "| --- " in err  # the end of its log
    assert f"ftrun resume {run.path}" in err
    code, _, err = ftrun("resume", run.id[-4:])
    assert (code, run.liveness()) == (0, "done")
    assert "begin anew" in err


def test_a_trainer_that_cannot_start_shows_its_log(ftrun: Ftrun) -> None:
    code, _, err = ftrun("train", "run.yaml", FAKE_MUTE="1")
    assert (code, "| ImportError: libcuda.so.1" in err) == (1, True)


def test_a_failing_trainer_says_why(ftrun: Ftrun) -> None:
    code, _, err = ftrun("train", "run.yaml", FAKE_FAIL_AT="5")
    assert code == 1
    assert "error: loss is nan at step 5" in err
    assert "log.txt" in err
    assert "loss is nan" in ftrun("show", "last")[1]


def test_the_run_survives_a_reader_that_goes_away(ftrun: Ftrun) -> None:
    child = ftrun.start("train", "run.yaml", "--json", FAKE_STEP="0.02")
    assert child.stdout
    child.stdout.readline()
    child.stdout.close()
    assert child.wait(30) == 141
    run = ftrun.run()
    ftrun.until(lambda: run.liveness() == "done")
    assert child.stderr
    assert "Traceback" not in child.stderr.read()


def test_a_terminal_gets_a_bar(ftrun: Ftrun) -> None:
    leader, follower = os.openpty()
    with os.fdopen(follower, "w") as stream:
        child = ftrun.spawn(DRIVER, "train", "run.yaml", cwd=ftrun.folder, stderr=stream)
    seen = b""
    with os.fdopen(leader, "rb", buffering=0) as terminal:
        while chunk := _read(terminal):
            seen += chunk
    assert child.wait(30) == 0
    text = seen.decode()
    assert "\rstep " in text
    assert "/50 ━" in text
    assert "checkpoint saved" in text


def _read(terminal: Any) -> bytes:
    try:
        return bytes(terminal.read(4096))
    except OSError:  # Linux: the other end is closed
        return b""


def test_config_from_standard_input_and_from_options(ftrun: Ftrun) -> None:
    child = ftrun.spawn(DRIVER, "train", "-", cwd=ftrun.folder, stdin=subprocess.PIPE)
    assert child.communicate(CONFIG, timeout=30)[0]
    assert ftrun.run().config_path.read_text() == CONFIG
    code, _, _ = ftrun("train", "--model", "a: b", "--data", "x.jsonl", "--runs-dir", "other")
    assert code == 0
    (run,) = Run.all(ftrun.folder / "other")
    assert 'name: "a: b"' in run.config_path.read_text()
    assert ftrun("runs", FTLAB_RUNS="other")[1].count(run.id) == 1


def test_plan(ftrun: Ftrun) -> None:
    assert ftrun("plan", "run.yaml")[:2] == (0, "the plan: 50 steps\n")
    code, out, _ = ftrun("plan", "run.yaml", "--json")
    assert (code, json.loads(out)["steps"]) == (0, 50)
    assert not (ftrun.folder / "runs").exists()


# -- looking --------------------------------------------------------------------------------------


def test_runs_show_and_tail_of_nothing_and_of_a_planned_run(
    ftrun: Ftrun, make_plan: Callable[..., Any]
) -> None:
    code, out, err = ftrun("runs")
    assert (code, out, "no runs in runs" in err) == (0, "", True)
    assert ftrun("runs", "--json")[:2] == (0, "[]\n")
    run = Run.create(make_plan(), ftrun.folder / "runs", "planned-one")
    listed = ftrun("runs")[1]
    assert listed.splitlines()[0].split() == [
        "RUN", "STATE", "MODEL", "DATA", "METHOD", "STEP", "LOSS", "AGE",
    ]  # fmt: skip
    assert "planned-one" in listed
    (seen,) = json.loads(ftrun("runs", "--json")[1])
    assert (seen["id"], seen["state"]) == ("planned-one", "planned")
    assert json.loads(ftrun("show", "planned", "--json")[1])["manifest"] is None
    assert ftrun("show", "planned", "--plan")[1] == "the plan: 50 steps\n"
    assert json.loads(ftrun("show", "planned", "--plan", "--json")[1])["steps"] == 50
    assert ftrun("tail", "planned")[:2] == (0, "")
    run.log_path.write_text("one\ntwo\n")
    assert ftrun("tail", "planned", "--log", "-n", "1")[1] == "two\n"
    assert ftrun("resume", "planned")[0] == 0
    assert run.liveness() == "done"


def test_tail_follows_and_ctrl_c_only_stops_watching(ftrun: Ftrun) -> None:
    ftrun("train", "run.yaml", "--detach", FAKE_STEP="0.2")
    run = ftrun.until_step(2)
    watching = ftrun.start("tail", "-f", "last", "--json")
    assert watching.stdout
    assert json.loads(watching.stdout.readline())["kind"] == "started"
    os.kill(watching.pid, signal.SIGINT)
    _, err = watching.communicate(timeout=30)
    assert (watching.returncode, "no longer watching" in err) == (0, True)
    assert run.liveness() == "running"
    ftrun("stop", "last", "--wait")
    ftrun("resume", "last", "--detach")
    code, out, err = ftrun("tail", "-f", "last")
    assert (code, out.splitlines()[-1], "is done" in err) == (0, "step 50: done", True)


def test_show_after_the_end_has_the_manifest(ftrun: Ftrun) -> None:
    from ftlab import manifest

    ftrun("train", "run.yaml")
    run = ftrun.run()
    (run.export_dir / "adapter").mkdir()
    (run.export_dir / "adapter" / "adapter_config.json").write_text("{}")
    manifest.seal(run, {"state": "done", "step": 50})
    text = ftrun("show", "last")[1]
    assert "export/adapter/adapter_config.json (2 bytes" in text
    assert "50 steps, sha256" in text


# -- config help ----------------------------------------------------------------------------------


def test_init_and_schema(ftrun: Ftrun) -> None:
    code, out, _ = ftrun("init")
    assert code == 0
    assert "learning_rate" in out
    assert "standard" in ftrun("init", "--list")[1]
    code, _, err = ftrun("init", "standart")
    assert (code, "did you mean standard" in err) == (2, True)
    schema = json.loads(ftrun("schema")[1])
    assert "train" in schema["properties"]


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("trian",), "unknown command 'trian'; did you mean train?"),
        (("train", "run.yaml", "--jsom"), "did you mean --json?"),
        (("train", "--detach"), "no config: give a YAML file"),
        (("train", "run.yaml", "--name", "a/b"), "run name 'a/b'"),
        (("train", "missing.yaml"), "missing.yaml"),
        (("train", "run.yaml", "--set", "launch.where=slurm"), "launch.where"),
        (("train", "run.yaml", "--set", "optim.lerning_rate=1"), "learning_rate"),
        (("show",), "required: RUN"),
        (("show", "nothing"), "no run 'nothing'"),
        (("request", "x", "dance"), "invalid choice"),
        (("tail", "x", "-n", "many"), "invalid int value"),
    ],
)
def test_usage_errors_exit_2_on_stderr(ftrun: Ftrun, words: tuple[str, ...], message: str) -> None:
    code, out, err = ftrun(*words)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert "Traceback" not in err
    assert not (ftrun.folder / "runs").exists()


def test_several_problems_are_all_listed(ftrun: Ftrun) -> None:
    code, _, err = ftrun("train", "run.yaml", "--set", "train.seed=x", "--set", "optim.warmup=y")
    assert code == 2
    assert err.startswith("error: 2 problems\n")
    assert "train.seed" in err
    assert "optim.warmup" in err


def test_an_unusable_runs_folder_is_exit_3(ftrun: Ftrun) -> None:
    code, _, err = ftrun("train", "run.yaml", "--quiet", "--runs-dir", "run.yaml/runs")
    assert (code, "is a file, not a folder" in err) == (3, True)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_every_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(words) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert all(f"\n  {name} " in out for name in cli.COMMANDS)


@pytest.mark.parametrize("name", [n for n in cli.COMMANDS if n != "demo"])
def test_each_command_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"usage: ftrun {name}")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("ftlab ")


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError([Problem("a.b", "x"), Problem("c", "y", "z")]), 2, "  c: y (z)"),
        (TryLater("the hub did not answer"), 75, "error: the hub did not answer"),
        (RuntimeError("boom"), 1, "error: RuntimeError: boom"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_errors_become_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    text: str,
) -> None:
    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.delenv("FTLAB_DEBUG", raising=False)
    monkeypatch.setattr(cli, "_dispatch", fail)
    assert cli.main(["runs"]) == code
    assert text in capsys.readouterr().err
    if isinstance(error, RuntimeError):
        monkeypatch.setenv("FTLAB_DEBUG", "1")
        with pytest.raises(RuntimeError, match="boom"):
            cli.main(["runs"])


@pytest.mark.quiet
def test_starting_is_light_and_fast(slowness: float) -> None:
    code = (
        "import sys; from ftlab.cli import main; main(['--help']); main(['runs', '--help']);"
        "main(['train', '--help']);"
        "heavy = {'torch', 'transformers', 'numpy', 'yaml', 'datasets', 'textual', 'tqdm', 'rich'};"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert child.stderr == "[]\n"
    plain = {name: value for name, value in os.environ.items() if "COV" not in name}
    spent = []
    for _ in range(5):
        before = os.times()
        command = [sys.executable, "-c", "import sys; from ftlab.cli import main; main(['--help'])"]
        subprocess.run(command, capture_output=True, check=True, env=plain)
        after = os.times()
        spent.append(
            after.children_user + after.children_system
            - before.children_user - before.children_system
        )  # fmt: skip
    assert min(spent) < 0.15 * slowness  # seconds of processor time


def test_python_m_ftlab() -> None:
    code = (
        "import sys; sys.argv = ['ftlab']; import runpy;"
        "sys.exit = lambda code: None; runpy.run_module('ftlab', run_name='__main__');"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for word in ("ftlab", "Python", "torch", "peft", "CUDA of torch", "LlamaForCausalLM"):
        assert word in child.stdout
