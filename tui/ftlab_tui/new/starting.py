"""Start a run from a plan, through `ftlab` alone, as `ftrun train --detach` does."""

from __future__ import annotations

from pathlib import Path

from ftlab import launch, registry
from ftlab.plan import Plan
from ftlab.run import Run


def start(plan: Plan, runs_dir: Path, text: str) -> Run:
    """Make the run directory with this config text and start its trainer, which outlives us.

    Raises:
        FtlabError: the place is not available, the directory cannot be made, the start failed.
    """
    launch.check(plan.config.launch.where)
    registry.check(runs_dir, None)
    run = Run.create(plan, runs_dir, None, config_text=text)
    launch.start(run)
    return run
