"""Lines of the table."""

from __future__ import annotations

from ftlab import notes
from ftlab.notes import Notes
from ftlab_tui.runs import rows


def test_a_row_tells_the_run(make_run) -> None:  # type: ignore[no-untyped-def]
    run = make_run("r", 60)
    notes.write(run, Notes(("paper",), "lr halved"))
    row = rows.read(run)
    assert (row.state, row.step, row.steps, row.tags) == ("stopped", 60, 200, ("paper",))
    assert row.losses[0] > row.losses[-1]
    assert row.size > 1000
    assert rows.matches(row, "#paper halved")
    assert not rows.matches(row, "!halved")
    assert rows.matches(row, "! ")


def test_sparklines() -> None:
    assert rows.sparkline([]) == ""
    assert rows.sparkline([1, 1]) == "▁▁"
    assert rows.sparkline([0, 7, float("nan")]) == "▁█!"


def test_sizes() -> None:
    assert rows.bytes_text(999) == "999 B"
    assert rows.bytes_text(54_000) == "52.7 KiB"
    assert rows.bytes_text(5 << 30) == "5.0 GiB"
