"""The command line of the app, and how soon it shows something."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from ftlab_tui import cli

ROOT = Path(__file__).resolve().parents[2]


def test_status_without_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "--runs-dir", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().out


def test_an_unknown_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["attach", "nothing", "--runs-dir", str(tmp_path)]) == 2
    assert "no run 'nothing'" in capsys.readouterr().err


def test_a_run_belongs_to_attach(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["status", "something"]) == 2
    assert "unexpected" in capsys.readouterr().err


def first_paint(
    code: str, home: Path, expected: Iterable[str] = ("Quick start",)
) -> tuple[float, int]:
    """Seconds from starting an interpreter on a terminal of 120x40 to the last of these patterns.

    Beside them the most memory that it had until then, in KiB.
    """
    names = ("core", "kernels", "doctor", "tui")
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    # As on any second start: what was compiled once is not compiled again.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    env |= {
        "PYTHONPYCACHEPREFIX": str(home / "compiled"),
        "PYTHONPATH": os.pathsep.join(str(ROOT / name) for name in names), "PYTHONSAFEPATH": "1",
        "TERM": "xterm-256color", "COLORTERM": "truecolor", "XDG_STATE_HOME": str(home),
    }  # fmt: skip
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    began, seen = time.perf_counter(), b""
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=slave, stdout=slave, stderr=slave, cwd=home, env=env, start_new_session=True,
    )  # fmt: skip
    try:
        while not all(re.search(pattern, seen.decode("utf-8", "ignore")) for pattern in expected):
            assert select.select([master], [], [], 30)[0], seen[-2000:]
            seen += os.read(master, 1 << 16)
        taken = time.perf_counter() - began
        peak = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{child.pid}/status").read_text())
        assert peak is not None
        return taken, int(peak[1])
    finally:
        child.kill()
        child.wait()
        os.close(master)
        os.close(slave)


TEXTUAL_ALONE = """
from textual.app import App
from textual.widgets import Static
class Bare(App):
    def compose(self):
        yield Static("Quick start")
Bare().run()
"""


@pytest.mark.quiet
def test_the_first_paint_is_quick(tmp_path: Path, slowness: float) -> None:
    """Under 0.4 s from exec to Home on the terminal.

    The floor is Textual itself with one word on the screen. Where another process slows that floor
    beyond what `slowness` saw, the app may take half as long again as the floor.
    """
    app = "import sys; from ftlab_tui.cli import main; sys.exit(main([]))"
    first_paint(app, tmp_path)  # compiles what is not compiled yet
    taken, floor = [], []
    for number in range(10):
        taken.append(first_paint(app, tmp_path)[0])
        floor.append(first_paint(TEXTUAL_ALONE, tmp_path)[0])
        if number >= 2 and min(taken) < 0.4 * slowness:
            break
    print(f"first paint {min(taken):.3f} s, floor {min(floor):.3f} s, slowness {slowness:.1f}")
    assert min(taken) < max(0.4 * slowness, 1.5 * min(floor))


@pytest.mark.quiet
def test_a_long_run_opens_quickly(
    tmp_path: Path, slowness: float, make_run: Callable[..., Any],
    make_event: Callable[..., dict[str, Any]],
) -> None:  # fmt: skip
    """Under 1 s and 200 MB to the whole curve and the end of the log, as for the first paint.

    100,000 steps are 32 MB of events, the log has a million lines.
    """
    run = make_run("long", 0, total=100_000)
    line = json.dumps(make_event(123_456))
    with run.events_path.open("a") as file:
        file.writelines(line.replace("123456", str(n)) + "\n" for n in range(1, 100_001))
    with run.log_path.open("w") as file:
        for _ in range(100):
            file.write("a line of the log that says something\n" * 10_000)
        file.write("the very last line\n")
    options = ["attach", "long", "--runs-dir", str(run.path.parent)]
    app = f"import sys; from ftlab_tui.cli import main; sys.exit(main({options}))"
    # The curve is drawn in braille; both ends of its axis, the newest step, the end of the log.
    expected = ["[\u2801-\u28ff]", "100k", "step 100,000/100,000", "the very last line"]
    first_paint(app, tmp_path, expected)  # compiles what is not compiled yet
    taken, floor, peak = [], [], 0
    for number in range(8):
        seconds, memory = first_paint(app, tmp_path, expected)
        taken.append(seconds)
        peak = max(peak, memory)
        floor.append(first_paint(TEXTUAL_ALONE, tmp_path)[0])
        if number >= 2 and min(taken) < 1.0 * slowness:
            break
    print(f"opened in {min(taken):.3f} s with {peak / 1024:.0f} MiB, slowness {slowness:.1f}")
    assert peak < 200 * 1024
    assert min(taken) < max(1.0 * slowness, 3.0 * min(floor))
