"""A rank that does not lead touches no file of the run."""

from __future__ import annotations

from ftlab.train.ranks.silent import SilentEvents, SilentHeartbeat


def test_nothing_is_written() -> None:
    with SilentEvents() as events:
        events.write("warning", message="unheard")
    events.close()
    SilentHeartbeat().update(step=1, steps=2, message="unseen")
