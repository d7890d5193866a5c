"""A child process that does heavy work for a light parent and never outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def environment() -> dict[str, str]:
    """The environment of a child that must import the same ftlab as this process."""
    ours = [
        entry
        for entry in sys.path
        if entry and any((Path(entry) / name).is_dir() for name in ("ftlab", "ftlab_kernels"))
    ]
    before = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    path = os.pathsep.join(dict.fromkeys([*ours, *before]))
    return {
        **os.environ,
        "PYTHONPATH": path,
        "PYTHONSAFEPATH": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": os.environ.get("TOKENIZERS_PARALLELISM", "true"),
    }


def run(module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module arguments` to its end; its exit code, -N when signal N ended it.

    stdin is null, and stdout joins stderr, because stdout is for data. Ctrl-C is the parent's
    affair: it ends the child and is raised here, so that the child prints no traceback.

    Raises:
        KeyboardInterrupt: Ctrl-C; the child has ended by then.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        child = _start(module, arguments)  # inherits the mask: a terminal's Ctrl-C is not for it
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return child.wait()
    except BaseException:
        _end(child)
        raise


def _start(module: str, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=2,
        env=environment(),
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Terminate, then kill."""
    child.terminate()
    try:
        child.wait(timeout=5)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
