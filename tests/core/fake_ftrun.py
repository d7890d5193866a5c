"""ftrun with a fake plan and the fake trainer: everything between them is real.

FAKE_STEPS sets the steps of the plan. SIGINT is made deliverable again: a shell's background jobs
ignore it.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
from pathlib import Path
from typing import Any

from ftlab import cli
from ftlab import plan as plans
from ftlab.commands import common
from ftlab.launch import local
from ftlab.run import Run

HERE = Path(__file__).parent


def load(name: str) -> Any:
    """A module that lies beside this file."""
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def command(run: Run, resume: bool) -> list[str]:
    """The fake trainer's command line."""
    made = [sys.executable, os.fspath(HERE / "fake_trainer.py"), os.fspath(run.path)]
    return [*made, "--resume"] if resume else made


def main() -> int:
    """Patch and run."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    steps = int(os.environ.get("FAKE_STEPS", "50"))
    local.trainer_command = command
    common.make_plan = lambda config, runs_dir, machine=None: load("conftest").fake_plan(steps)
    plans.render = lambda plan, *_, **__: f"the plan: {plan.steps} steps"
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
