"""`ftui status`: the runs and how they stand, as text under the prompt."""

from __future__ import annotations

from ftlab.commands.common import table
from ftlab.errors import FtlabError
from ftlab.run import LIVE, Run
from ftlab_tui.lab import Lab

MOST = 10


def text(lab: Lab) -> str:
    """A table of the newest runs; live ones first."""
    runs = []
    for run in Run.all(lab.runs_dir):
        try:
            runs.append((run.liveness(), run.status(), run))
        except FtlabError:
            continue
    if not runs:
        return f"no runs in {lab.runs_dir}; `ftui` makes one"
    runs = runs[::-1]
    runs.sort(key=lambda row: row[0] not in LIVE)
    rows = []
    for state, status, run in runs[:MOST]:
        share = f"{100 * status.step / status.steps:.0f} %" if status.steps else ""
        rows.append((run.id, state, f"{status.step}/{status.steps}", share, status.message))
    more = f"\n... and {len(runs) - MOST} more" if len(runs) > MOST else ""
    return table(("RUN", "STATE", "STEP", "", ""), rows) + more
