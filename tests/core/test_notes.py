"""Tags and notes of a run: kept, corrected, never in the way of the run."""

from __future__ import annotations

import pytest

from ftlab import notes
from ftlab.errors import FtlabError
from ftlab.notes import Notes
from ftlab.run import Run


def test_notes_are_kept(planned: Run) -> None:
    assert notes.read(planned) == Notes()
    notes.write(planned, Notes(("paper", "seed-1"), "lr halved"))
    assert notes.read(planned) == Notes(("paper", "seed-1"), "lr halved")


def test_tags_are_words_each_once() -> None:
    assert notes.parse_tags(" a, #b  a,c ") == ("a", "b", "c")
    assert notes.parse_tags("") == ()


@pytest.mark.parametrize("content", ["", "[]", '{"tags": 3, "text": []}', "{"])
def test_damaged_notes_read_as_none(planned: Run, content: str) -> None:
    notes.path(planned).write_text(content)
    assert notes.read(planned) == Notes()


def test_a_run_that_is_gone_is_told(planned: Run) -> None:
    gone = Run(planned.path / "gone")
    with pytest.raises(FtlabError, match="gone"):
        notes.write(gone, Notes(("a",)))
