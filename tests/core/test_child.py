"""A child imports what its parent imports, keeps out of stdout, and ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftlab import child


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a module `helper` that a child can run."""
    (tmp_path / "ftlab_kernels").mkdir()  # marks the folder as one of ours
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / "helper.py"


def test_exit_code_and_arguments(module: Path, capfd: pytest.CaptureFixture[str]) -> None:
    module.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(7)\n")
    assert child.run("helper", ["a", "b"]) == 7
    out, err = capfd.readouterr()
    assert (out, err) == ("", "['a', 'b']\n")


def test_a_signal_is_a_negative_code(module: Path) -> None:
    module.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    assert child.run("helper", []) == -signal.SIGKILL


def test_nothing_is_read_from_the_terminal(module: Path) -> None:
    module.write_text("import sys\nsys.exit(len(sys.stdin.read()))\n")
    assert child.run("helper", []) == 0


def test_the_parents_mask_stays(module: Path) -> None:
    module.write_text("")
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    child.run("helper", [])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_ctrl_c_ends_the_child_quietly(tmp_path: Path) -> None:
    """The terminal sends it to both; the child says nothing and is gone when the parent goes."""
    (tmp_path / "ftlab_kernels").mkdir()
    (tmp_path / "helper.py").write_text(
        "import os, sys, time\nprint(os.getpid(), flush=True)\ntime.sleep(60)\n"
    )
    code = (
        "import sys\n"
        "from ftlab import child\n"
        "try: child.run('helper', [])\n"
        "except BaseException as error: sys.exit(type(error).__name__)\n"
    )
    environment = child.environment()
    environment["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{environment['PYTHONPATH']}"
    with subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, start_new_session=True,
        env=environment,
    ) as parent:  # fmt: skip
        assert parent.stderr is not None
        pid = int(parent.stderr.readline())
        time.sleep(0.1)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.stderr.read() == "KeyboardInterrupt\n"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_deaf_child_is_killed(module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write_text(
        "import signal, sys, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', file=sys.stderr, flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(module)], stderr=subprocess.PIPE, env=child.environment()
    )
    assert process.stderr is not None
    process.stderr.readline()
    wait = process.wait
    monkeypatch.setattr(process, "wait", lambda timeout=None: wait(timeout and 0.2))
    child._end(process)
    assert process.returncode == -signal.SIGKILL
    process.stderr.close()
