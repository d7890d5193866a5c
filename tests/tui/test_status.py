"""`ftui status`: live runs first, a damaged one left out, the number of the others told."""

from __future__ import annotations

from collections.abc import Callable

from ftlab.run import Run
from ftlab_tui.lab import Lab
from ftlab_tui.status import MOST, text


def test_live_ones_first(make_run: Callable[..., Run]) -> None:
    live = make_run("a-live", 30, live=True)
    for number in range(MOST + 2):
        made = make_run(f"r{number:02}", 3)
    made.status_path.write_text("{")
    lines = text(Lab(live.path.parent)).splitlines()
    assert lines[1].split()[:4] == ["a-live", "running", "30/200", "15"]
    assert len(lines) == MOST + 2
    assert lines[-1] == "... and 3 more"
